"""DNPH: deep neighborhood-aware proxy hashing with a uniform distribution constraint.

"Deep Neighborhood-aware Proxy Hashing with Uniform Distribution Constraint for Cross-modal Retrieval", ACM TOMM 2024,
as its authors released it (QinLab-WFU/OUR-DNPH). Codes are drawn to the proxies of their labels by a softmax over
distances with a margin; a linear layer per modality classifies; and codes are made to correlate with random vectors of
-1 and +1, each matched to one row (the Hungarian method), so that they spread evenly.

Defects of the release, which are the defaults here: the classification's target is a row's first label only
(`classify="first"`; "all" takes a binary cross-entropy over all labels), and the proxies' optimizer is never stepped
(`train_proxies=False`).
"""

from typing import Literal, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.methods.layers import epoch_generator
from math_hash.methods.method import Codes, PooledMethod, StreamFeatures
from math_hash.methods.objectives import sign, total


class Outputs(NamedTuple):
    """Codes (b, k) and class scores (b, c) of one modality."""

    codes: Tensor
    scores: Tensor


class DNPH(PooledMethod):
    """The heads, the proxies and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        margin: added to the squared distances to the proxies of a row's own labels.
        uniform: weight of the correlation with random vectors.
        classify: the target of the classification.
        train_proxies: whether the proxies learn.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        margin: float = 1.0,
        uniform: float = 0.1,
        classify: Literal["first", "all"] = "first",
        train_proxies: bool = False,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.margin, self.uniform, self.classify = margin, uniform, classify
        self.proxies = nn.Parameter(torch.randn(num_labels, k_bits), requires_grad=train_proxies)
        self.classifiers = nn.ModuleDict({name: nn.Linear(width, num_labels) for name in self.streams})
        self.generator = epoch_generator(0)

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.generator = epoch_generator(epoch)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {
            name: Outputs(self.heads[name](stream.pooled), self.classifiers[name](stream.pooled))
            for name, stream in features.items()
        }

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: output.codes for name, output in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        both = [outputs[name] for name in self.streams]
        codes = F.normalize(torch.cat([output.codes for output in both]), dim=-1)  # (2 b, k)
        own = labels.repeat(2, 1)
        squared = 2 - 2 * codes @ F.normalize(self.proxies, dim=-1).T + self.margin * own  # (2 b, c)
        noise = self.noise(both[0].codes)
        terms = {
            "proxy": -(own * F.log_softmax(-squared, dim=1)).sum(dim=1).mean(),
            "classification": total(self._classification(output.scores, labels) for output in both),
        }
        for name, output in outputs.items():
            terms[f"{name} uniform"] = -self.uniform * (output.codes * matched(output.codes, noise)).sum(dim=1).mean()
        return terms

    def noise(self, codes: Tensor) -> Tensor:
        """Random vectors of -1 and +1 in the shape of the codes (b, k)."""
        return sign(torch.randn(codes.shape, generator=self.generator)).to(codes)

    def _classification(self, scores: Tensor, labels: Tensor) -> Tensor:
        if self.classify == "first":
            return F.cross_entropy(scores, labels.argmax(dim=1))
        return F.binary_cross_entropy_with_logits(scores, labels)


def matched(codes: Tensor, noise: Tensor) -> Tensor:
    """The rows of `noise` (b, k), reordered so that the sum of their inner products with the codes is the greatest."""
    place = linear_sum_assignment((codes @ noise.T).detach().cpu().numpy(), maximize=True)[1]
    return noise[torch.from_numpy(place).to(noise.device)]
