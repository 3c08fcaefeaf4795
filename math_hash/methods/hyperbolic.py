"""Points of the Poincare ball, and the hierarchy of points under lowest common ancestors among proxies."""

import torch
from torch import Tensor
from torch.nn import functional as F


def to_ball(vectors: Tensor, curvature: float, longest: float) -> Tensor:
    """Vectors (b, d) as points of the Poincare ball, by the exponential map at 0.

    Longer vectors are cut to the length `longest` first; gradients are rescaled by the ball's metric (1 - c |z|^2)^2/4.
    """
    length = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    vectors = vectors * (longest / (length + 1e-5)).clamp(max=1)  # as released
    scaled = curvature**0.5 * vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    z = torch.tanh(scaled) * vectors / scaled
    metric = ((1 - curvature * z.square().sum(dim=-1, keepdim=True)).square() / 4).detach()
    return z.detach() + metric * (z - z.detach())


def ball_distances(points: Tensor, others: Tensor, curvature: float) -> Tensor:
    """Distances in the ball, (n, d) and (b, d): (n, b); computed in double precision, since near points cancel."""
    dtype, points, others = points.dtype, points.double(), others.double()
    product = points @ others.T
    one, two = points.square().sum(dim=1)[:, None], others.square().sum(dim=1)
    # the squared length of the Moebius difference, from inner products
    a, b = 1 - 2 * curvature * product + curvature * two, 1 - curvature * one
    squared = a.square() * one - 2 * a * b * product + b.square() * two
    denominator = 1 - 2 * curvature * product + curvature**2 * one * two + 1e-5  # as released
    length = squared.clamp(min=1e-12).sqrt() / denominator
    return (2 / curvature**0.5 * torch.atanh((curvature**0.5 * length).clamp(max=1 - 1e-5))).to(dtype)


def hierarchy_loss(
    distance: Tensor, triplets: Tensor, gumbel: tuple[Tensor, Tensor], margin: float, temperature: float
) -> Tensor:
    """Two near points have a lower common ancestor than they have with a third (Kim et al., "HIER", CVPR 2023).

    An ancestor is the proxy with the greatest score -max(distance) / temperature plus Gumbel noise. Triplets whose two
    ancestors are the same cost nothing.

    Args:
        distance: of points to proxies, (n, p).
        triplets: int64 (t, 3), two near points and a far one.
        gumbel: noise of both choices, (t, p) each.
        margin, temperature: of the comparison and of the choice.
    """
    # index_select, whose gradient is always summed in one order
    i, j, k = (distance.index_select(0, index) for index in triplets.unbind(dim=1))  # (t, p) each
    near = torch.maximum(i, j)
    whole = torch.maximum(near, k)
    lower, upper = (
        hard_choice(noise - values / temperature) for values, noise in ((near, gumbel[0]), (whole, gumbel[1]))
    )
    difference = lower - upper
    losses = [(sign * (point * difference).sum(dim=1) + margin).relu() for point, sign in ((i, 1), (j, 1), (k, -1))]
    return ((losses[0] + losses[1] + losses[2]) * (lower.argmax(dim=1) != upper.argmax(dim=1))).mean()


def hard_choice(scores: Tensor) -> Tensor:
    """The arg-max of each row as 0/1, with the gradient of the softmax (straight-through): (t, p)."""
    soft = scores.softmax(dim=1)
    hard = F.one_hot(scores.argmax(dim=1), scores.shape[1]).to(scores.dtype)
    return hard + soft - soft.detach()
