"""DDBH: deep discriminative boundary hashing for cross-modal retrieval.

Terms and constants are those of the release (QinLab-WFU/DDBH). The inner products g of a row's code with the batch's
are passed through a softplus around two base points, one for similar and one for dissimilar pairs, which follow the
row's own means and hardest pairs; beyond a base point the slope is gentler than before it.
"""

from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from math_hash.methods.method import Codes, PooledMethod, code_pairs
from math_hash.methods.objectives import shared_label, sign

_SLOPE = log(99)  # the softplus's sigmoid goes from .01 to .99 over two widths


class DDBH(PooledMethod):
    """The objective, on a linear head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        hardest: share of a row's pairs, the hardest, that move the other base point.
        quan: weight of quantization.
        quantize: "matrix", as released, where a row counts as often as it has similar rows; "mean" counts each once.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        hardest: float = 0.1,
        quan: float = 0.1,
        quantize: Literal["matrix", "mean"] = "matrix",
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.hardest, self.quan, self.quantize = hardest, quan, quantize

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels[rows], bank_labels[rows])
        terms = {
            name: boundary_loss(one @ two.T, S, self.k_bits, self.hardest)
            for name, (one, two) in code_pairs(outputs).items()
        }
        for name, h in outputs.items():
            squared = (h - sign(h.detach())).square()
            error = (S @ squared).mean() if self.quantize == "matrix" else squared.mean()
            terms[f"{name} quan"] = self.quan * error
        return terms


def boundary_loss(g: Tensor, S: Tensor, k_bits: int, hardest: float) -> Tensor:
    """Mean over the rows with both kinds of pairs of mean softplus(f) over similar and softplus(-f) over dissimilar.

    Args:
        g: inner products (b, b).
        S: 0/1 (b, b).
        k_bits: k.
        hardest: share of the hardest pairs.
    """
    p, q = (base[:, None] for base in _base_points(g.detach(), S, k_bits / 4, hardest))
    base = torch.where(S > 0, p, q)
    easy = torch.where(S > 0, g > p, g < q)
    f = -_SLOPE / torch.where(easy, k_bits / 6, k_bits / 12) * (g - base)
    similar, dissimilar = S.sum(dim=1), (1 - S).sum(dim=1)
    losses = (F.softplus(f) * S).sum(dim=1) / similar.clamp(min=1)
    losses = losses + (F.softplus(-f) * (1 - S)).sum(dim=1) / dissimilar.clamp(min=1)
    both = (similar > 0) & (dissimilar > 0)
    return (losses * both).sum() / both.sum().clamp(min=1)


def _base_points(g: Tensor, S: Tensor, upper: float, hardest: float) -> tuple[Tensor, Tensor]:
    """p and q of each row, (b,), constant."""
    similar, dissimilar = S.sum(dim=1), (1 - S).sum(dim=1)
    mean_similar = ((g * S).sum(dim=1) / similar.clamp(min=1)).clamp(0, upper)
    mean_dissimilar = ((g * (1 - S)).sum(dim=1) / dissimilar.clamp(min=1)).clamp(0, upper)
    hard_dissimilar = _mean_of_last(torch.where(S > 0, torch.inf, g), dissimilar, hardest)
    hard_similar = -_mean_of_last(torch.where(S > 0, -g, torch.inf), similar, hardest)
    p = mean_similar - (upper - mean_similar) / upper * (mean_similar - hard_dissimilar).abs()
    q = mean_dissimilar - mean_dissimilar / upper * (mean_dissimilar - hard_similar).abs()
    return p, q


def _mean_of_last(values: Tensor, count: Tensor, share: float) -> Tensor:
    """Mean of each row's greatest values, from rank int((1 - share) m) of its m finite ones on: (b,)."""
    ranked = values.sort(dim=1).values
    place = torch.arange(values.shape[1], device=values.device)
    chosen = (place >= ((1 - share) * count).floor()[:, None]) & (place < count[:, None])
    return torch.where(chosen, ranked, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
