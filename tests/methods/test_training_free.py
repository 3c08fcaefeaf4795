"""LSH, PCA and ITQ, which are fitted to vectors."""

import numpy as np
import pytest
import torch
from methods.plain_pairs import D, K, bits, build
from numpy.linalg import norm

from math_hash.errors import InputError


def test_itq_loses_less_than_pca_and_pca_is_scikit_learns():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(400, 8)) @ rng.normal(size=(8, D))
    image, text = torch.tensor(mixed + 0.1 * rng.normal(size=mixed.shape)).float(), torch.tensor(mixed).float()
    lost = {}
    for name in ("PCA", "ITQ"):
        method = build(name)
        method.fit(image, text, seed=3)
        unit = torch.nn.functional.normalize(image, dim=-1) - method.means[0]
        projected = (unit @ method.projection).numpy()
        lost[name] = np.square(bits(projected) - projected / norm(projected) * np.sqrt(projected.size)).sum()
        again = build(name)
        again.fit(image, text, seed=3)
        assert torch.equal(again.projection, method.projection)
    assert lost["ITQ"] < lost["PCA"]
    stacked = np.concatenate(
        [v - v.mean(axis=0) for v in (torch.nn.functional.normalize(m, dim=-1).numpy() for m in (image, text))]
    )
    principal = np.linalg.svd(stacked.astype(float), full_matrices=False)[2][:K]
    method = build("PCA")
    method.fit(image, text, seed=0)
    assert np.allclose(np.abs((method.projection.numpy().T * principal).sum(axis=1)), 1, atol=1e-3)
    with pytest.raises(InputError, match="width 64 have no more than 64"):
        build("ITQ", k=65).fit(image, text, seed=0)
