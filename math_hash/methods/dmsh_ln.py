"""DMsH-LN: deep multi-similarity hashing with a label network.

As its authors released it in their collection of CLIP-based hashing (QinLab): the multi-similarity loss of Wang, Han,
Huang, Dong and Scott, CVPR 2019, between and within modalities, on the rows of the matrix of inner products, each row
scaled to unit length. Two rows are similar if the inner product of their labels' codes is positive, which a small
network makes of the label rows.

Defect: that comparison has no gradient, so the label network stays as it was drawn. `similar="labels"` takes the label
rows themselves instead, as the method's own repository does.
"""

from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.methods.method import Codes, PooledMethod, code_pairs

_LARGEST = 1 - 1e-5  # a similar pair above this similarity is not counted


class DMsHLN(PooledMethod):
    """The objective, on a linear head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        similar: what decides which rows are similar: the "network" on label rows, or the "labels".
        base: similarity around which the loss is centered.
        margin: of the mining of pairs.
        positive_scale, negative_scale: steepness for similar and dissimilar pairs.
        label_hidden: width of the label network's hidden layer.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    factor: Tensor

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        similar: Literal["network", "labels"] = "network",
        base: float = 0.5,
        margin: float = 0.1,
        positive_scale: float = 2.0,
        negative_scale: float = 40.0,
        label_hidden: int = 512,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.similar, self.base, self.margin = similar, base, margin
        self.scales = positive_scale, negative_scale
        layers = nn.Linear(num_labels, label_hidden), nn.ReLU(), nn.Linear(label_hidden, k_bits)
        self.label_network = nn.Sequential(*layers).requires_grad_(False)
        self.register_buffer("factor", torch.ones(()))

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.factor.fill_(sqrt(epoch))

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = self.similarity(bank_labels[rows])
        return {
            name: self._multi_similarity(F.normalize(one @ two.T, dim=1), S)
            for name, (one, two) in code_pairs(outputs).items()
        }

    def similarity(self, labels: Tensor) -> Tensor:
        """Which rows of 0/1 labels (b, c) are similar: bool (b, b)."""
        codes = labels.to(self.factor.dtype)
        if self.similar == "network":
            codes = torch.tanh(self.factor * self.label_network(codes))
        return codes @ codes.T > 0

    def _multi_similarity(self, M: Tensor, S: Tensor) -> Tensor:
        """Sum over the rows that keep pairs of both kinds, over the number of rows; M and S are (b, b)."""
        similar, dissimilar = S & (M < _LARGEST), ~S
        least = torch.where(similar, M, torch.inf).amin(dim=1, keepdim=True)
        most = torch.where(dissimilar, M, -torch.inf).amax(dim=1, keepdim=True)
        kept_similar, kept_dissimilar = similar & (M - self.margin < most), dissimilar & (M + self.margin > least)
        both = kept_similar.any(dim=1) & kept_dissimilar.any(dim=1)
        a, b = self.scales
        near = torch.where(kept_similar, torch.exp(-a * (M - self.base)), 0.0).sum(dim=1).log1p() / a
        far = torch.where(kept_dissimilar, torch.exp(b * (M - self.base)), 0.0).sum(dim=1).log1p() / b
        return ((near + far) * both).sum() / len(M)
