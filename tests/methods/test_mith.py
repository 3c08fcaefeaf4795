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
    assert not weights[1].any()  # no token that counts selects the second
    weights = concept_weights(spoken, content, top_concepts=3)[0]
    assert weights[1].tolist() == [1, 0, 0]  # only positive scores count
    assert weights[2].tolist() == [0, 1, 0]
