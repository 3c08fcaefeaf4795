"""Ranking the bits of a code, so that its most significant bits are a good shorter code."""

import torch
from torch import Tensor

from math_hash.methods.objectives import shared_label


def bit_significance_order(image: Tensor, text: Tensor, labels: Tensor, most_rows: int = 2000) -> Tensor:
    """Rank bits by forward selection: the next bit is the one with which the selected bits best predict relevance.

    For selected bits T, the score of an image i and a text j is the number of bits that agree, up to constants
    sum_{t in T} x_it y_jt with x, y in -1/+1. Each step adds the bit that maximizes the correlation, over all pairs, of
    these scores with S, which is 1 where i and j share a label. With z_t = x_t y_t^T, centered over pairs, the
    correlation is sum_t <z_t, S> / sqrt(sum_{t,u} <z_t, z_u> |S|^2), and all the products come from k x k matrices.

    Args:
        image, text: codes of the same n training rows, (n, k), of any scale; only their signs count.
        labels: 0/1 (n, c).
        most_rows: maximum number of rows to use, evenly spaced.

    Returns:
        int64 (k,), the most significant bit first.
    """
    rows = torch.linspace(0, len(image) - 1, min(most_rows, len(image)), device=image.device).long()
    X, Y = (torch.where(codes[rows] >= 0, 1.0, -1.0).double() for codes in (image, text))
    n, k = X.shape
    S = shared_label(labels[rows], labels[rows]).double()
    if not S.any():  # without labels, only an image's own text is relevant
        S = torch.eye(n, dtype=torch.double, device=image.device)
    mean = X.mean(dim=0) * Y.mean(dim=0)  # of z_t over all pairs
    products = (X.T @ X) * (Y.T @ Y) / n**2 - torch.outer(mean, mean)
    agreement = (X * (S @ Y)).sum(dim=0) / n**2 - mean * S.mean()
    order: list[int] = []
    numerator = variance = X.new_zeros(())
    for _ in range(k):
        grown = variance + products.diagonal() + 2 * products[:, order].sum(dim=1)
        scores = (numerator + agreement) / grown.clamp(min=1e-12).sqrt()
        scores[order] = -torch.inf
        best = int(scores.argmax())
        numerator, variance = numerator + agreement[best], grown[best]
        order.append(best)
    return torch.tensor(order, device=image.device)
