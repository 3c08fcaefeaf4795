"""The objective of every method, and its gradient, against a plain transcription with loops over pairs."""

import numpy as np
import pytest
import torch
from methods import plain_objectives
from methods.plain_pairs import B_ROWS, LABELS, N_ROWS, ROWS, TRAINED, K, build, codes

from math_hash.methods import METHODS
from math_hash.methods.djsrh import Outputs as DjsrhOutputs
from math_hash.methods.mith import Outputs as MithOutputs
from math_hash.methods.scahn import Outputs as ScahnOutputs


def case(name, turn):
    """The method, its outputs from plain arrays, the arrays (stream -> values), and the plain objective."""
    method, plain = build(name), getattr(plain_objectives, f"plain_{name.lower()}")
    arrays = {stream: codes(seed=place) for place, stream in enumerate(turn)}

    def outputs(values):
        return values

    if name == "SCAHN":
        arrays = {stream: codes(5 * K, place).reshape(B_ROWS, 5, K) for place, stream in enumerate(turn)}

        def outputs(values):
            return {stream: ScahnOutputs(value[:, :4], value[:, 4]) for stream, value in values.items()}

    elif name == "MITH":
        arrays = {stream: codes(3 + 4 * K, place) for place, stream in enumerate(turn)}
        plain_objectives.plain_mith.constants = {stream: value.copy() for stream, value in arrays.items()}

        def outputs(values):
            cut = {stream: value.split([3, K, K, 2 * K], dim=1) for stream, value in values.items()}
            return {stream: MithOutputs(*parts[:3], parts[3].unflatten(1, (K, 2))) for stream, parts in cut.items()}

    elif name == "DSPH":
        proxies = method.proxies.detach().numpy().astype(float)

        def plain(h, bank):
            return plain_objectives.plain_dsph(h, bank, proxies)

    elif name == "DJSRH":
        vectors = [np.random.default_rng(place).normal(size=(B_ROWS, 8)) for place in (3, 4)]

        def outputs(values):
            return DjsrhOutputs(*map(torch.tensor, vectors), values["image"], values["text"])

        def plain(h, bank):
            return plain_objectives.plain_djsrh(h, bank, *vectors)

    return method, outputs, arrays, plain


CASES = [(name, turn) for name in TRAINED if name != "MATH" for turn in METHODS[name].turns]


@pytest.mark.parametrize(("name", "turn"), CASES, ids=[f"{name}-{'-'.join(turn)}" for name, turn in CASES])
def test_the_objective_and_its_gradient_equal_loops_over_pairs(name, turn):
    method, outputs, arrays, plain = case(name, turn)
    rng = np.random.default_rng(9)
    bank = {stream: np.tanh(rng.normal(size=(N_ROWS, K))) for stream in method.streams}
    values = {stream: torch.tensor(array, requires_grad=True) for stream, array in arrays.items()}
    terms = method.loss_terms(
        outputs(values),
        {stream: torch.tensor(array) for stream, array in bank.items()},
        torch.tensor(LABELS),
        torch.tensor(ROWS),
    )
    loss = sum(terms.values())
    assert float(loss.detach()) == pytest.approx(plain(arrays, bank), rel=1e-5)
    loss.backward()
    for stream, array in arrays.items():
        for place in rng.choice(array.size, 12, replace=False):
            at = np.unravel_index(place, array.shape)
            slopes = []
            for step in (1e-5, -1e-5):
                moved = {other_stream: value.copy() for other_stream, value in arrays.items()}
                moved[stream][at] += step
                slopes.append(plain(moved, bank))
            slope = (slopes[0] - slopes[1]) / 2e-5
            assert float(values[stream].grad[at]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_mlsph_centered():
    method = build("MLSPH", centered=True)
    rng = np.random.default_rng(9)
    bank = {stream: np.tanh(rng.normal(size=(N_ROWS, K))) for stream in method.streams}
    h = {"image": codes()}
    terms = method.loss_terms(
        {"image": torch.tensor(h["image"])},
        {name: torch.tensor(v) for name, v in bank.items()},
        torch.tensor(LABELS),
        torch.tensor(ROWS),
    )
    assert float(sum(terms.values())) == pytest.approx(plain_objectives.plain_mlsph(h, bank, centered=True), rel=1e-5)
