"""DPSIH: deep hashing with sets of codes per instance.

As its authors released it in their collection of CLIP-based hashing (QinLab; AAAI 2026). An image or a text has e unit
codes: attention pools its tokens e times, and each pooled vector is added to the code of its pooled vector. The
similarity of two instances is the largest inner product of their codes. Triplets of these similarities, the distance of
the two modalities' distributions, and the diversity of an instance's residuals are trained.

Defect of the release, and the default here: the last two are sums where means were meant (`reduce="sum"`). Our choices:
the one code that is searched is the mean of an instance's e codes, where the release takes the nearest pair of e^2; and
padding and end markers are not pooled, where the release pools all tokens.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import hash_head
from math_hash.methods.method import Codes, Method, StreamFeatures, code_pairs
from math_hash.methods.objectives import distances, mean_where, shared_label
from math_hash.methods.recompute import recomputed


class Outputs(NamedTuple):
    """Unit codes and their residuals, (b, e, k) each."""

    codes: Tensor
    residuals: Tensor


class DPSIH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        codes: e, codes per instance.
        margin: of the triplets.
        triplet, distribution, diversity: weights of the terms.
        gamma: of the kernel exp(-gamma d) between codes at distance d.
        reduce: "sum", as released, or "mean" of the distribution's and the diversity's terms.
        dropout: of the code of the pooled vector.
    """

    needs = Needs(tokens=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        codes: int = 4,
        margin: float = 0.25,
        triplet: float = 100.0,
        distribution: float = 0.01,
        diversity: float = 0.01,
        gamma: float = 0.5,
        reduce: Literal["sum", "mean"] = "sum",
        dropout: float = 0.2,
    ):
        super().__init__()
        self.k_bits, self.margin, self.gamma, self.reduce = k_bits, margin, gamma, reduce
        self.weights = triplet, distribution, diversity
        self.heads = nn.ModuleDict({name: SetHead(width, k_bits, codes, dropout) for name in self.streams})

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image).codes.mean(dim=1)

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text).codes.mean(dim=1)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {name: self.heads[name](stream) for name, stream in features.items()}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: output.codes.mean(dim=1) for name, output in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        triplet, distribution, diversity = self.weights
        S = shared_label(bank_labels[rows], bank_labels[rows])
        codes = {name: output.codes for name, output in outputs.items()}
        terms = {
            f"{name} triplet": triplet * all_triplets(set_similarity(one, two), S, self.margin)
            for name, (one, two) in code_pairs(codes).items()
        }
        image, text = (value.flatten(0, 1) for value in codes.values())
        residuals = [output.residuals for output in outputs.values()]
        return terms | {
            "distribution": distribution
            * (self._kernel(image, image) - 2 * self._kernel(image, text) + self._kernel(text, text)),
            "diversity": diversity * (self._gram(residuals[0]) + self._gram(residuals[1])),
        }

    def _kernel(self, codes: Tensor, others: Tensor) -> Tensor:
        values = torch.exp(-self.gamma * distances(codes, others))
        return values.mean() if self.reduce == "mean" else values.sum()

    def _gram(self, residuals: Tensor) -> Tensor:
        """Norms of the Gram matrices of an instance's unit residuals off the diagonal, over e^2."""
        e = residuals.shape[1]
        unit = F.normalize(residuals, dim=-1)
        gram = (unit @ unit.transpose(1, 2)) * (1 - torch.eye(e, dtype=unit.dtype, device=unit.device))
        norms = gram.flatten(1).norm(dim=1) / e**2
        return norms.mean() if self.reduce == "mean" else norms.sum()


class SetHead(nn.Module):
    """tanh(linear(pooled)) plus sigmoid(linear(token mixture)) for each of e mixtures, layer norm, unit length."""

    def __init__(self, width: int, k_bits: int, codes: int, dropout: float, token_width: int | None = None):
        super().__init__()
        token_width = token_width or width
        half = token_width // 2
        self.code = hash_head(width, k_bits, 0, dropout)
        self.attention = nn.Sequential(
            nn.Linear(token_width, half, bias=False), nn.Tanh(), nn.Linear(half, codes, bias=False)
        )
        self.residual = nn.Linear(token_width, k_bits)
        self.norm = nn.LayerNorm(k_bits)

    def forward(self, features: Features) -> Outputs:
        tokens, content = features.tokens, features.content_mask()
        assert tokens is not None
        scores = self.attention(tokens)  # (b, length, e)
        if content is not None:
            scores = scores.masked_fill(~content[..., None], float("-inf"))
        residuals = torch.sigmoid(self.residual(scores.softmax(dim=1).transpose(1, 2) @ tokens))
        codes = self.norm(self.code(features.pooled)[:, None] + residuals)
        return Outputs(F.normalize(codes, dim=-1), residuals)


def set_similarity(codes: Tensor, others: Tensor) -> Tensor:
    """The largest inner product of two instances' codes, (b, e, k) each: (b, b)."""
    return torch.einsum("iek,jfk->ijef", codes, others).flatten(2).amax(dim=2)


@recomputed
def all_triplets(similarity: Tensor, S: Tensor, margin: float) -> Tensor:
    """Mean of margin - sim_ap + sim_an over the triplets where sim_ap - sim_an <= margin; p is similar, not a itself.

    Args:
        similarity: (b, b).
        S: 0/1 (b, b).
    """
    gap = similarity[:, :, None] - similarity[:, None, :]
    similar = S.bool() & ~torch.eye(len(S), dtype=torch.bool, device=S.device)
    return mean_where(margin - gap, similar[:, :, None] & (S == 0)[:, None] & (gap <= margin))
