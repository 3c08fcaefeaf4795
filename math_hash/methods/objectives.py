"""The losses that several methods share, as plain functions of codes, in float32.

Notation: b rows of a batch, n rows of a code bank, k bits, d the width of continuous features.
"""

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from math_hash.methods.recompute import recomputed


def shared_label(labels: Tensor, others: Tensor) -> Tensor:
    """S: 1.0 where two rows share at least one label, else 0.0.

    Args:
        labels: 0/1 (n, c), any dtype.
        others: 0/1 (b, c).

    Returns:
        float32 (n, b).
    """
    return (labels.float() @ others.float().T).gt(0).float()


def jaccard(labels: Tensor, others: Tensor) -> Tensor:
    """J: the number of labels that two rows share, over the number that either has; 0 if neither has any.

    Args:
        labels: 0/1 (n, c), any dtype.
        others: 0/1 (b, c).

    Returns:
        float32 (n, b) in [0, 1].
    """
    labels, others = labels.float(), others.float()
    shared = labels @ others.T
    either = labels.sum(dim=1)[:, None] + others.sum(dim=1) - shared
    return shared / either.clamp(min=1)


def cosine(vectors: Tensor, others: Tensor) -> Tensor:
    """C: cosines of rows, (n, d) and (b, d) of any dtype, float32 (n, b); 0 where a row is 0."""
    return F.normalize(vectors.float(), dim=-1) @ F.normalize(others.float(), dim=-1).T


@recomputed
def pairwise_likelihood(
    bank: Tensor, codes: Tensor, similarity: Tensor, scale: float = 2.0, limit: float = 64.0
) -> Tensor:
    """Mean negative log-likelihood of the pairwise similarities: mean(softplus(s) - S s), s = clamp(F h^T) / scale.

    The likelihood of DCMH (Jiang and Li, CVPR 2017, section 3.2), with the inner products clamped as in the MITH
    release.

    Args:
        bank: F, (n, k), constant.
        codes: h, (b, k).
        similarity: S, (n, b) of 0/1.
        scale: divisor of the inner products.
        limit: the inner products are clamped to [-limit, limit].

    Returns:
        A scalar.
    """
    s = torch.clamp(bank @ codes.T, -limit, limit) / scale
    return (F.softplus(s) - similarity * s).mean()


def distances(codes: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances of rows, (n, d) and (b, d): (n, b); the gradient where two rows are equal is 0."""
    return torch.cdist(codes, others, compute_mode="donot_use_mm_for_euclid_dist")


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the values where `chosen`, bool or 0/1, is 1; 0 if it is 1 nowhere."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def squared_error(codes: Tensor, target: Tensor) -> Tensor:
    """Squared distance between rows (b, k), a mean over rows and a sum over bits."""
    return (codes - target).square().sum() / len(codes)


def quantization(codes: Tensor, binary: Tensor) -> Tensor:
    """Mean squared distance of continuous codes (b, k) to their binary ones in -1/+1: ||h - B||^2 / (b k)."""
    return (codes - binary).square().mean()


def info_nce(features: Tensor, others: Tensor, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; as in CLIP, Radford et al. 2021, figure 3).

    Row i of one side matches row i of the other, and all other rows of the batch are negatives. The result is the mean
    of both directions' cross-entropies.

    Args:
        features: (b, d), normalized here to unit length.
        others: (b, d), likewise.
    """
    logits = F.normalize(features, dim=-1) @ F.normalize(others, dim=-1).T / temperature
    matching = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, matching) + F.cross_entropy(logits.T, matching))


def sign(codes: Tensor) -> Tensor:
    """-1/+1 by sign, zero counting as +1."""
    return torch.where(codes >= 0, 1.0, -1.0)


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of the terms, added in their order."""
    return reduce(torch.add, terms)
