"""DSPH: deep semantic-aware proxy hashing for multi-label cross-modal retrieval.

Huo, Qin, Dai, Wang, Zhang, Huang and Wang, "Deep Semantic-aware Proxy Hashing for Multi-label Cross-modal Retrieval",
IEEE TCSVT 2023. Each class has a learnable proxy; codes are pulled to the proxies of their labels and kept from those
of others by a margin (section III-C), and rows that share no label repel each other (section III-D).

Departures from the release: a CLIP with a two-layer head per modality; each term is a mean instead of a sum, over
images and texts together.
"""

import torch
from torch import Tensor, nn

from math_hash.methods.method import Codes, PooledMethod
from math_hash.methods.objectives import cosine, shared_label


class DSPH(PooledMethod):
    """The heads, the proxies and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        margin: cosine to a proxy or row of other labels above which a code is pushed away.
        repulsion: weight of the term between rows that share no label.
        hidden: width of the heads' hidden layer.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        margin: float = 0.2,
        repulsion: float = 1.0,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.proxies = nn.Parameter(torch.randn(num_labels, k_bits))
        self.margin, self.repulsion = margin, repulsion

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        S = shared_label(labels, labels)
        codes = torch.cat([outputs[name] for name in self.streams])  # (2 b, k)
        member = labels.repeat(2, 1)
        to_proxy = cosine(codes, self.proxies)  # (2 b, c)
        apart = 1 - S.repeat(2, 2)
        return {
            "positive": mean_where(1 - to_proxy, member),
            "negative": mean_where(torch.relu(to_proxy - self.margin), 1 - member),
            "repulsion": self.repulsion * mean_where(torch.relu(cosine(codes, codes) - self.margin), apart),
        }


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the values where `chosen` is 1; 0 if it is 1 nowhere."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
