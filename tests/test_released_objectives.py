"""The methods' objectives, heads and optimizer compute what their authors' released code computed.

The numbers are in `released-objectives/` beside the data, or in the folder that MATH_HASH_RELEASED_OBJECTIVES names.
"""

import inspect

import pytest
import torch
from released import bank_objectives, batch_objectives, heads
from released.fixtures import FOLDER, arrays, case_names, head_arrays, read_case

from math_hash.training.bert_adam import BertAdam
from math_hash.training.published import RELEASED

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is absent")

FUNCTIONS = {
    "MATH": bank_objectives.math,
    "MITH": bank_objectives.mith,
    "DCMH": bank_objectives.dcmh,
    "MLSPH": bank_objectives.mlsph,
    "MESDCH": bank_objectives.mesdch,
    "SCAHN": bank_objectives.scahn,
    "DSPH": batch_objectives.dsph,
    "DCGH": batch_objectives.dcgh,
    "DCHMT": batch_objectives.dchmt,
    "DNPH": batch_objectives.dnph,
    "DNpH": batch_objectives.dnph_quadratic,
    "DPBE": batch_objectives.dpbe,
    "DDBH": batch_objectives.ddbh,
    "DDWSH": batch_objectives.ddwsh,
    "DScPH": batch_objectives.dscph,
    "DMsH-LN": batch_objectives.dmsh_ln,
    "TwDH": batch_objectives.twdh,
    "DPSIH": batch_objectives.dpsih,
    "DIMCH": batch_objectives.dimch,
    "DJSRH": batch_objectives.djsrh,
    "JDSH": batch_objectives.jdsh,
    "UCCH": batch_objectives.ucch,
    "DGCPN": batch_objectives.dgcpn,
    "CMCL": bank_objectives.cmcl,
    "DHaPH": batch_objectives.dhaph,
    "CIRH": batch_objectives.cirh,
}
UNIT = {"res_img_cls", "res_txt_cls", "res_lab_cls"}
LOOSE = {("DIMCH", "mmd"): 3e-4}  # float32 distances of near points
CASES = [(method, case) for method in FUNCTIONS if FOLDER.is_dir() for case in case_names(method)]


@pytest.mark.parametrize(("method", "name"), CASES, ids=[f"{method}-{case}" for method, case in CASES])
def test_terms_total_and_gradients_are_the_released_ones(method, name):
    torch.manual_seed(0)
    case = read_case(method, name)
    function = FUNCTIONS[method]
    named = len(inspect.signature(function).parameters) == 2
    terms, names = function(case, name) if named else function(case)
    assert set(terms) == set(names)
    for ours, theirs in names.items():
        expected = sum(case.weight[term] * case.term[term] for term in theirs)
        tolerance = max(LOOSE.get((method, term), 5e-5) for term in theirs)
        assert float(terms[ours].detach()) == pytest.approx(expected, rel=tolerance, abs=1e-9), ours
    left = {term for term, weight in case.weight.items() if weight} - {t for these in names.values() for t in these}
    assert not left
    total = sum(terms.values())
    assert float(total.detach()) == pytest.approx(case.total, rel=5e-5)
    total.backward()
    assert case.grad
    for key, expected in case.grad.items():
        gradient = case.x[key].grad
        gradient = torch.zeros_like(expected) if gradient is None else gradient
        if key in UNIT:  # our objective makes unit rows itself, which takes the part along the row away
            expected = expected - (expected * case.x[key]).sum(dim=1, keepdim=True) * case.x[key]
        largest = float(expected.abs().max())
        assert float((gradient - expected).abs().max()) <= 1e-4 * largest, key


HEADS = {
    "MATH": heads.math,
    "MITH": heads.mith,
    "CMCL": heads.cmcl,
    "DCHMT": heads.dchmt,
    "DSPH": heads.dsph,
    "TwDH": heads.twdh,
    "DIMCH": heads.dimch,
    "DPSIH": heads.dpsih,
    "SCAHN": heads.scahn,
    "MLSPH": heads.multi_scale,
    "MESDCH": heads.multi_scale,
    "UCCH": heads.ucch,
    "CIRH": heads.cirh,
}


@pytest.mark.parametrize("method", HEADS)
def test_heads_with_the_released_weights_give_the_released_outputs(method):
    state, inputs, outputs, option = head_arrays(method)
    with torch.no_grad():
        ours = HEADS[method](state, inputs, option)
    assert set(ours) == set(outputs)
    for name, expected in outputs.items():
        assert torch.allclose(ours[name], expected, atol=2e-5), (name, float((ours[name] - expected).abs().max()))


@pytest.mark.parametrize("name", ["MITH", "DSPH", "clip"])
def test_the_optimizer_takes_the_released_steps(name):
    content = {
        k.removeprefix(f"{name}/"): v for k, v in arrays("BertAdam.steps.npz").items() if k.startswith(f"{name}/")
    }
    option = {k.removeprefix("option/"): float(v) for k, v in content.items() if k.startswith("option/")}
    weights = {key: torch.nn.Parameter(torch.from_numpy(content[f"input/{key}"].copy())) for key in ("weight", "bias")}
    optimizer = BertAdam(
        list(weights.values()), lr=option["lr"], total_steps=int(option["t_total"]),
        warmup=option["warmup"], weight_decay=option["weight_decay"],
    )  # fmt: skip
    for step in range(20):
        for key, weight in weights.items():
            weight.grad = torch.from_numpy(content[f"input/grad_{key}"][step].copy())
        optimizer.step()
        for key, weight in weights.items():
            expected = torch.from_numpy(content[f"after/{key}"][step])
            assert torch.allclose(weight.detach(), expected, rtol=1e-5, atol=1e-7), (step, key)


def test_nothing_that_has_a_file_is_left_out(capsys):
    files = {path.name.split(".")[0] for path in FOLDER.glob("*.npz")} - {"BertAdam"}
    with_objective = {path.stem for path in FOLDER.glob("*.npz") if "." not in path.stem}
    with_head = {path.stem.removesuffix(".head") for path in FOLDER.glob("*.head.npz")}
    assert with_objective == set(FUNCTIONS), with_objective ^ set(FUNCTIONS)
    assert with_head == set(HEADS), with_head ^ set(HEADS)
    assert files == set(FUNCTIONS) | set(HEADS)
    assert set(RELEASED) == set(FUNCTIONS)  # what the leaderboard says
    with capsys.disabled():
        print(
            f"\nreleased objectives: {len(CASES)} cases of {len(FUNCTIONS)} methods, {len(HEADS)} heads, from {FOLDER}"
        )
