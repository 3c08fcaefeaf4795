"""Ranking bits from the most to the least significant one."""

import numpy as np
import torch

from math_hash.models.bit_order import bit_significance_order


def bits(values):
    return np.where(values >= 0, 1.0, -1.0)


def test_significant_bits_come_first_and_equal_the_plain_selection():
    rng = np.random.default_rng(2)
    labels = np.eye(3)[rng.integers(0, 3, 60)]
    good = np.where(labels, 1, -1)[:, [0, 1, 2, 0]]  # the last one repeats the first
    noisy = np.where(rng.random((60, 4)) < 0.3, -good, good)
    image = np.concatenate([noisy, good, rng.normal(size=(60, 2))], axis=1)
    text = np.concatenate([noisy, good, rng.normal(size=(60, 2))], axis=1)
    ranked = bit_significance_order(*map(torch.tensor, (image, text, labels))).tolist()
    x, y, S = bits(image), bits(text), labels @ labels.T > 0
    chosen = []
    for _ in range(10):
        scores = {
            t: np.corrcoef((x[:, [*chosen, t]] @ y[:, [*chosen, t]].T).ravel(), S.ravel())[0, 1]
            for t in range(10)
            if t not in chosen
        }
        chosen.append(max(scores, key=scores.get))
    assert ranked[:6] == chosen[:6]
    assert set(ranked[:3]) <= {4, 5, 6, 7}
    assert sorted(ranked) == list(range(10))
