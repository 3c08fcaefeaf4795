"""Baselines without labels or training: codes that are fitted to the encoder's pooled vectors, or random.

All of them center the unit vectors of each modality and take the sign of a linear map that both modalities share.
SignBits: the vectors' own coordinates. LSH: a random map (Charikar, STOC 2002). PCA: the principal directions of all
vectors together. ITQ: the same, rotated so that taking signs loses little (Gong and Lazebnik, CVPR 2011, section 3.2).
CCA-ITQ: a map per modality, to the directions in which images and their texts correlate most, rotated likewise (section
5 there, with texts for tags).
"""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.errors import InputError
from math_hash.methods.method import Method


class LSH(Method):
    """Sign of random projections.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
    """

    needs = Needs(labels=False)
    trained_by_gradient = False
    means: Tensor
    projection: Tensor

    def __init__(self, width: int, k_bits: int):
        super().__init__()
        self.k_bits = k_bits
        self.register_buffer("means", torch.zeros(2, width))
        self.register_buffer("projection", torch.zeros(width, k_bits))

    def hash_image(self, image: Features) -> Tensor:
        return self._hash(image.pooled, 0)

    def hash_text(self, text: Features) -> Tensor:
        return self._hash(text.pooled, 1)

    def _hash(self, pooled: Tensor, modality: int) -> Tensor:
        return torch.tanh((F.normalize(pooled.float(), dim=-1) - self.means[modality]) @ self.projection)

    def fit(self, image: Tensor, text: Tensor, seed: int) -> None:
        """Set the map from the pooled vectors (n, d) of the training rows; here there may be more images than texts.

        Raises:
            InputError: the vectors are too narrow for k bits.
        """
        unit = [F.normalize(vectors.float(), dim=-1) for vectors in (image, text)]
        self.means.copy_(torch.stack([vectors.mean(dim=0) for vectors in unit]))
        centered = np.concatenate([(vectors - vectors.mean(dim=0)).double().cpu().numpy() for vectors in unit])
        self.projection.copy_(torch.from_numpy(np.ascontiguousarray(self._map(centered, np.random.default_rng(seed)))))

    def _map(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The map, (d, k), for the centered vectors (n, d) of both modalities."""
        return rng.standard_normal((vectors.shape[1], self.k_bits))


class SignBits(LSH):
    """Sign of the vectors' first k coordinates. `k_bits` is at most `width`."""

    def _map(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _require_width(vectors.shape[1], self.k_bits)
        return np.eye(vectors.shape[1], self.k_bits)


class PCA(LSH):
    """Sign of the principal components. `k_bits` is at most `width`."""

    def _map(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        d = vectors.shape[1]
        _require_width(d, self.k_bits)
        _, directions = scipy.linalg.eigh(vectors.T @ vectors, subset_by_index=(d - self.k_bits, d - 1))
        return directions[:, ::-1]


class ITQ(PCA):
    """Iterative quantization: the principal components, rotated.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        iterations: number of iterations that find the rotation.
    """

    def __init__(self, width: int, k_bits: int, *, iterations: int = 50):
        super().__init__(width, k_bits)
        self.iterations = iterations

    def _map(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        directions = super()._map(vectors, rng)
        return directions @ itq_rotation(vectors @ directions, self.iterations, rng)


class CCAITQ(Method):
    """Canonical correlation analysis of images and texts, rotated by iterative quantization.

    Args:
        width: d, of the encoder's features.
        k_bits: k, at most d.
        iterations: number of iterations that find the rotation.
        ridge: added to both covariances, as a share of their mean variance.
    """

    needs = Needs(labels=False)
    trained_by_gradient = False
    means: Tensor
    projections: Tensor

    def __init__(self, width: int, k_bits: int, *, iterations: int = 50, ridge: float = 1e-2):
        super().__init__()
        self.k_bits, self.iterations, self.ridge = k_bits, iterations, ridge
        self.register_buffer("means", torch.zeros(2, width))
        self.register_buffer("projections", torch.zeros(2, width, k_bits))

    def hash_image(self, image: Features) -> Tensor:
        return self._hash(image.pooled, 0)

    def hash_text(self, text: Features) -> Tensor:
        return self._hash(text.pooled, 1)

    def _hash(self, pooled: Tensor, modality: int) -> Tensor:
        unit = F.normalize(pooled.float(), dim=-1)
        return torch.tanh((unit - self.means[modality]) @ self.projections[modality])

    def fit(self, image: Tensor, text: Tensor, seed: int) -> None:
        """Set the maps from the pooled vectors (n, d) of the training rows.

        Raises:
            InputError: the vectors are too narrow for k bits.
        """
        unit = [F.normalize(vectors.float(), dim=-1) for vectors in (image, text)]
        self.means.copy_(torch.stack([vectors.mean(dim=0) for vectors in unit]))
        X, Y = ((vectors - vectors.mean(dim=0)).double().cpu().numpy() for vectors in unit)
        n, d = X.shape
        _require_width(d, self.k_bits)
        whiten = [self._whitening(vectors.T @ vectors / n) for vectors in (X, Y)]
        left, correlation, right = scipy.linalg.svd(whiten[0].T @ (X.T @ Y / n) @ whiten[1])
        flip = np.sign(left[np.abs(left).argmax(axis=0), np.arange(d)])  # a pair of directions has no sign of its own
        left, right = left * flip, right * flip[:, None]
        scale = correlation[: self.k_bits]  # directions count as much as they correlate, as in the paper
        maps = [whiten[0] @ left[:, : self.k_bits] * scale, whiten[1] @ right[: self.k_bits].T * scale]
        both = np.concatenate([X @ maps[0], Y @ maps[1]])
        R = itq_rotation(both, self.iterations, np.random.default_rng(seed))
        self.projections.copy_(torch.from_numpy(np.stack([directions @ R for directions in maps])))

    def _whitening(self, covariance: np.ndarray) -> np.ndarray:
        ridge = self.ridge * covariance.trace() / len(covariance)
        values, vectors = scipy.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
        return vectors / np.sqrt(values)


def _require_width(d: int, k_bits: int) -> None:
    if k_bits > d:
        raise InputError(f"`k_bits` {k_bits}: vectors of width {d} have no more than {d} directions")


def itq_rotation(V: np.ndarray, iterations: int, rng: np.random.Generator) -> np.ndarray:
    """The rotation (k, k) of centered vectors (n, k) that loses little when signs are taken."""
    R = scipy.linalg.qr(rng.standard_normal((V.shape[1], V.shape[1])))[0]
    for _ in range(iterations):
        B = np.where(V @ R >= 0, 1.0, -1.0)
        S, _, S_hat = scipy.linalg.svd(B.T @ V)
        R = (S @ S_hat).T
    return R
