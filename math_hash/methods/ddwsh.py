"""DDWSH: deep hashing with distance-weighted sampling and learned margins.

The method that its authors' collection of CLIP-based hashing (QinLab) calls DDWSH: the margin loss of Wu, Manmatha,
Smola and Kraehenbuehl, "Sampling Matters in Deep Embedding Learning", ICCV 2017, between and within modalities, with a
learned boundary per label; a row's boundary is the mean of those of its labels.

Defect: the release gives its sampler the matrix of distances as if it were the codes, and draws one similar and one
dissimilar row per anchor (`sampler="released"`). `sampler="paper"` is that of the paper (section 4.2), on unit codes:
for each anchor and similar row, a dissimilar row is drawn with a probability inverse to the density of its distance.
Departure: where there is no triplet, the release crashes, and the loss is 0 here.
"""

from math import inf
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.methods.layers import epoch_generator
from math_hash.methods.method import Codes, PooledMethod, code_pairs
from math_hash.methods.objectives import distances, shared_label, total

_CUTOFF, _FARTHEST = 0.5, 1.4  # distances below the first count as it; beyond the second nothing is drawn


class DDWSH(PooledMethod):
    """The objective, on a linear head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        margin: of both sides of the boundary.
        boundary: its initial value, a distance of unit codes.
        sampler: of the triplets.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        margin: float = 0.2,
        boundary: float = 1.2,
        sampler: Literal["released", "paper"] = "released",
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.margin, self.sampler = margin, sampler
        self.boundaries = nn.Parameter(torch.full((num_labels,), float(boundary)))
        self.generator = epoch_generator(0)

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.generator = epoch_generator(epoch)

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        S = shared_label(labels, labels)
        boundary = labels @ self.boundaries / labels.sum(dim=1).clamp(min=1)
        unit = {name: F.normalize(h, dim=-1) for name, h in outputs.items()}
        terms = {}
        for name, (one, two) in code_pairs(unit).items():
            D = distances(one, two)
            terms[name] = margin_loss(D, boundary, self.triplets(D.detach(), S), self.margin)
        return terms

    def triplets(self, D: Tensor, S: Tensor) -> Tensor:
        """Distance-weighted draws: int64 (t, 3), anchor, similar and dissimilar row.

        Args:
            D: distances of unit codes (b, b).
            S: 0/1 (b, b).
        """
        similar = S.bool() & ~torch.eye(len(S), dtype=torch.bool, device=S.device)
        released = self.sampler == "released"
        weights = distance_weights(distances(D, D), len(D)) if released else distance_weights(D, self.k_bits)
        allowed = (S == 0) & (released | (D < _FARTHEST))
        possible = similar & allowed.any(dim=1, keepdim=True)
        if not possible.any():
            return torch.zeros((0, 3), dtype=torch.int64, device=D.device)
        if released:
            anchors = possible.any(dim=1).nonzero()[:, 0]
            positives = self._draw(similar[anchors].float())
        else:
            anchors, positives = possible.nonzero(as_tuple=True)
        negatives = self._draw(weights.masked_fill(~allowed, -inf).softmax(dim=1)[anchors])
        return torch.stack([anchors, positives, negatives], dim=1)

    def _draw(self, weights: Tensor) -> Tensor:
        """One column per row, by these weights (t, b): int64 (t,)."""
        return torch.multinomial(weights.cpu(), 1, generator=self.generator)[:, 0].to(weights.device)


def distance_weights(D: Tensor, dimension: int) -> Tensor:
    """log 1/q of distances (b, b) on the unit sphere: q(d) = d^(n-2) (1 - d^2/4)^((n-3)/2), n being the dimension."""
    d = D.clamp(min=_CUTOFF)
    return (2 - dimension) * d.log() - (dimension - 3) / 2 * (1 - d.square() / 4).clamp(min=1e-8).log()


def margin_loss(D: Tensor, boundary: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """Sum over triplets of relu(D_ap - beta_a + m) + relu(beta_a - D_an + m), over the number that costs anything.

    Args:
        D: distances (b, b).
        boundary: beta (b,).
        triplets: int64 (t, 3).
        margin: m.
    """
    a, p, n = triplets.unbind(dim=1)
    near = torch.relu(D[a, p] - boundary[a] + margin)
    far = torch.relu(boundary[a] - D[a, n] + margin)
    costly = ((near > 0) | (far > 0)).sum()
    return total([near.sum(), far.sum()]) / costly.clamp(min=1)
