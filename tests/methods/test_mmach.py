"""MMACH, for which no released numbers exist, against loops over pairs and triplets; and MLSPH's own option."""

import numpy as np
import pytest
import torch
from methods.plain_pairs import B_ROWS, LABELS, N_ROWS, ROWS, K, bits, build, codes, share


def likelihood(F, h):
    values = [[f @ code / 2 for code in h] for f in F]
    return np.mean(
        [[np.log1p(np.exp(t)) - share(i, ROWS[j]) * t for j, t in enumerate(r)] for i, r in enumerate(values)]
    )


def triplets(anchors, items):
    losses = []
    for i in range(B_ROWS):
        d = [(K - anchors[i] @ items[j]) / (2 * K) for j in range(B_ROWS)]
        r = [LABELS[ROWS[i]] @ LABELS[ROWS[j]] for j in range(B_ROWS)]
        for j in range(B_ROWS):
            for m in range(B_ROWS):
                if r[j] > r[m]:
                    losses.append(max(d[j] - d[m] + 0.2 * (r[j] - r[m]) / r[i], 0))
    return np.mean(losses)


def test_mmach_equals_loops_over_pairs_and_triplets(monkeypatch):
    monkeypatch.setattr("math_hash.methods.mmach.ANCHORS", 4)  # two unequal parts
    method, rng = build("MMACH"), np.random.default_rng(9)
    bank = {stream: np.tanh(rng.normal(size=(N_ROWS, K))) for stream in method.streams}
    h = {stream: codes(seed=place) for place, stream in enumerate(method.streams)}
    B = bits(sum(bank.values()))[ROWS]
    expected = sum(likelihood(bank["label"], h[name]) for name in h) + 0.1 * sum(((h[n] - B) ** 2).mean() for n in h)
    expected += triplets(h["image"], h["text"]) + triplets(h["text"], h["image"])
    tensors = {name: torch.tensor(value) for name, value in bank.items()}
    terms = method.loss_terms(
        {n: torch.tensor(v) for n, v in h.items()}, tensors, torch.tensor(LABELS), torch.tensor(ROWS)
    )
    assert float(sum(terms.values())) == pytest.approx(expected, rel=1e-6)


def test_mlsph_centered_moves_the_target_by_one():
    h = torch.tensor(codes())
    bank = {
        name: torch.tensor(np.tanh(np.random.default_rng(3).normal(size=(N_ROWS, K)))) for name in ("image", "text")
    }
    bank["binary"] = bank["image"].sign()
    arguments = {"image": h}, bank, torch.tensor(LABELS), torch.tensor(ROWS)
    plain, centered = (build("MLSPH", centered=value).loss_terms(*arguments)["image inter"] for value in (False, True))
    J = np.array(
        [[LABELS[i] @ LABELS[j] / (np.maximum(LABELS[i], LABELS[j])).sum() for j in ROWS] for i in range(N_ROWS)]
    )
    unit = [np.array(v) / np.linalg.norm(v, axis=1, keepdims=True) for v in (bank["text"], h)]
    C = unit[0] @ unit[1].T
    assert float(plain) == pytest.approx(10 * ((2 * J - C) ** 2).mean(), rel=1e-5)
    assert float(centered) == pytest.approx(10 * ((2 * J - 1 - C) ** 2).mean(), rel=1e-5)
