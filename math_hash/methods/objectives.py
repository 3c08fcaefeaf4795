"""The losses that several methods share, as plain functions of codes, in float32.

Notation: b rows of a batch, n rows of a code bank, k bits, d the width of continuous features.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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


def pairwise_likelihood(
    bank: Tensor, codes: Tensor, similarity: Tensor, scale: float = 2.0, limit: float = 64.0
) -> Tensor:
    """Mean negative log-likelihood of the pairwise similarities: mean(softplus(s) - S s), s = clamp(F h^T) / scale.

    The likelihood of DCMH (Jiang and Li, CVPR 2017, section 3.2), with the inner products clamped as in the MITH
    release.

    Args:
        bank: F, (n, k).
        codes: h, (b, k).
        similarity: S, (n, b) of 0/1.
        scale: divisor of the inner products.
        limit: the inner products are clamped to [-limit, limit].

    Returns:
        A scalar.
    """
    return _Likelihood.apply(bank, codes, similarity, scale, limit)


class _Likelihood(torch.autograd.Function):
    """`pairwise_likelihood` with its gradient in closed form, so that no (n, b) matrix is kept or computed twice."""

    @staticmethod
    def forward(ctx: Any, bank: Tensor, codes: Tensor, similarity: Tensor, scale: float, limit: float) -> Tensor:
        products = bank @ codes.T
        s = products.clamp(-limit, limit).div_(scale)
        if any(ctx.needs_input_grad):
            slope = torch.sigmoid(s).sub_(similarity).mul_(products.abs_() <= limit).div_(scale * s.numel())
            ctx.to_bank = slope @ codes if ctx.needs_input_grad[0] else None
            ctx.to_codes = slope.T @ bank if ctx.needs_input_grad[1] else None
        return (F.softplus(s) - similarity * s).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_inputs = (None if found is None else gradient * found for found in (ctx.to_bank, ctx.to_codes))
        return *of_inputs, None, None, None


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
