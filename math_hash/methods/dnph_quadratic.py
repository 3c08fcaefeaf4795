"""DNpH: deep neighborhood-preserving hashing with quadratic spherical mutual information.

"Deep Neighborhood-preserving Hashing with Quadratic Spherical Mutual Information for Cross-modal Retrieval", IEEE TMM
2024, as its authors released it (QinLab-WFU/DNpH). With the affinity Y of two codes in [0, 1] and S the shared-label
matrix of the batch, S Y is drawn to 1 and Y altogether to 0, the second over M = b^2 / sum S. Both are sums over pairs,
as released; the release also has two unused forms, which are options.
"""

from typing import Literal

import torch
from torch import Tensor

from math_hash.methods.method import Codes, PooledMethod, code_pairs
from math_hash.methods.objectives import cosine, distances, shared_label


class DNpH(PooledMethod):
    """The objective, on a linear head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        affinity: "cosine", (cos + 1) / 2 of two codes, or "gaussian", exp(-|h - g|^2 / (2 sigma^2)).
        clamped: squared deviations of S Y from 1 and of Y from 0; otherwise their plain sums, -S Y and Y.
        sigma: of the Gaussian.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        affinity: Literal["cosine", "gaussian"] = "cosine",
        clamped: bool = True,
        sigma: float = 3.0,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.affinity, self.clamped, self.sigma = affinity, clamped, sigma

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels[rows], bank_labels[rows])
        M = S.numel() / S.sum().clamp(min=1)
        terms: dict[str, Tensor] = {}
        for name, (one, two) in code_pairs(outputs).items():
            Y = self._affinity(one, two)
            within = (S * Y - 1).square() if self.clamped else -S * Y
            between = Y.square() if self.clamped else Y
            terms |= {f"{name} within": within.sum(), f"{name} between": between.sum() / M}
        return terms

    def _affinity(self, codes: Tensor, others: Tensor) -> Tensor:
        if self.affinity == "cosine":
            return (cosine(codes, others) + 1) / 2
        return torch.exp(-distances(codes, others).square() / (2 * self.sigma**2))
