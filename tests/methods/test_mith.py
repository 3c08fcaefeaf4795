"""MITH: tokens and the concepts that they refer to."""

import numpy as np
import torch

from math_hash.methods.mith import concept_weights


def test_tokens_are_averaged_over_the_concepts_that_they_select():
    spoken = torch.tensor([[[0.9, 0.1, -0.5], [0.8, -0.2, 0.3], [0.99, 0.98, 0.97]]])
    content = torch.tensor([[True, True, False]])
    weights = concept_weights(spoken, content, top_concepts=1)[0]
    e = np.exp([0.9, 0.8])
    assert np.allclose(weights[0], [*(e / e.sum()), 0])  # both tokens that count select the first concept
    e = np.exp([0.1, -0.2])
    assert np.allclose(weights[1], [*(e / e.sum()), 0])  # no token selects the second: all tokens that count
    assert np.allclose(weights.sum(dim=1), 1)
