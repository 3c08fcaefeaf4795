"""DJSRH: the joint semantics of images and texts."""

import numpy as np
import torch

from math_hash.methods.djsrh import joint_semantics


def test_joint_semantics_equals_its_formula():
    rng = np.random.default_rng(5)
    image, text = rng.normal(size=(7, 5)), rng.normal(size=(7, 4))

    def cosines(features):
        centered = features - features.mean(axis=0)
        return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in centered] for a in centered])

    S = 0.6 * cosines(image) + 0.4 * cosines(text)
    expected = [
        [0.6 * S[i, j] + 0.4 * sum(S[i, m] * S[j, m] for m in range(7)) / 7 for j in range(7)] for i in range(7)
    ]
    given = joint_semantics(torch.tensor(image), torch.tensor(text), 0.6, 0.4)
    assert np.allclose(given, expected)
