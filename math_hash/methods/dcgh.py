"""DCGH: deep class-guided hashing for multi-label cross-modal retrieval.

As its authors released it (donnotnormal/DCGH). DSPH's proxy and repulsion terms with a margin of 0; rows that share
labels are also pulled together, up to the cosine of their label rows; and the distances of a code to the proxies of its
labels should vary little.

In the release, the zeros of absent labels enter that variance (`variance_over="all"`); the commented code there shows
that only present labels were meant (`variance_over="present"`).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from math_hash.methods.dsph import proxy_group, proxy_terms, repulsion_terms
from math_hash.methods.method import Codes, ParameterGroup, PooledMethod, code_pairs
from math_hash.methods.objectives import cosine, mean_where, shared_label


class DCGH(PooledMethod):
    """The heads, the proxies and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        repulsion, attraction, variance: weights of the terms between rows that share no label, between rows that share
            one, and of the variance.
        variance_over: "all" labels, as released, or "present" ones, as meant.
        proxy_lr: constant learning rate of the proxies' SGD (momentum 0.9, weight decay 5e-4).
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        repulsion: float = 0.8,
        attraction: float = 0.05,
        variance: float = 1.0,
        variance_over: Literal["all", "present"] = "all",
        proxy_lr: float = 0.02,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.proxies = nn.Parameter(nn.init.kaiming_normal_(torch.empty(num_labels, k_bits), mode="fan_out"))
        self.repulsion, self.attraction, self.variance = repulsion, attraction, variance
        self.variance_over, self.proxy_lr = variance_over, proxy_lr

    def parameter_groups(self) -> list[ParameterGroup]:
        return [proxy_group(self.proxies, self.proxy_lr)]

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        S, L = shared_label(labels, labels), cosine(labels, labels)
        attraction = {
            f"{name} relevant": self.attraction * mean_where(torch.relu(L - cosine(one, two)), S)
            for name, (one, two) in code_pairs(outputs).items()
        }
        variances = [self._variance(1 - cosine(h, self.proxies), labels) for h in outputs.values()]
        return (
            proxy_terms(outputs, self.proxies, labels, 0.0)
            | repulsion_terms(outputs, labels, 0.0, self.repulsion)
            | attraction
            | {"variance": self.variance * (variances[0] + variances[1])}
        )

    def _variance(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Mean over rows of the unbiased variance of the distances (b, c) to proxies."""
        if self.variance_over == "all":
            return (distances * labels).var(dim=1).mean()
        several = labels.sum(dim=1)
        means = (distances * labels).sum(dim=1) / several.clamp(min=1)
        squares = ((distances - means[:, None]).square() * labels).sum(dim=1)
        return mean_where(squares / (several - 1).clamp(min=1), several > 1)
