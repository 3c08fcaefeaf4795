"""DSPH: deep semantic-aware proxy hashing for multi-label cross-modal retrieval.

Huo, Qin, Dai, Wang, Zhang, Huang and Wang, "Deep Semantic-aware Proxy Hashing for Multi-label Cross-modal Retrieval",
IEEE TCSVT 2023. Each class has a learnable proxy; codes are pulled to the proxies of their labels and kept from those
of others by a margin (section III-C), and rows with several labels that share none repel each other (section III-D).
Terms, weights, heads and the margin's table are those of the release; the proxies have an SGD of their own.
"""

from math import ceil, log2

import torch
from torch import Tensor, nn

from math_hash.errors import InputError
from math_hash.methods.linear_codes import LONGEST, MOST_WORDS, minimum_distance
from math_hash.methods.method import Codes, ParameterGroup, PooledMethod, code_pairs
from math_hash.methods.objectives import cosine, mean_where, shared_label


class DSPH(PooledMethod):
    """The heads, the proxies and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        margin: cosine to a proxy or row of other labels above which a code is pushed away; None takes it from the
            table of binary codes (`code_margin`), as the release does.
        repulsion: weight of the terms between rows that share no label.
        proxy_lr: constant learning rate of the proxies' SGD (momentum 0.9, weight decay 5e-4).
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        margin: float | None = None,
        repulsion: float = 0.8,
        proxy_lr: float = 0.02,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.proxies = nn.Parameter(nn.init.kaiming_normal_(torch.empty(num_labels, k_bits), mode="fan_out"))
        self.margin = code_margin(k_bits, num_labels) if margin is None else margin
        self.repulsion, self.proxy_lr = repulsion, proxy_lr

    def parameter_groups(self) -> list[ParameterGroup]:
        return [proxy_group(self.proxies, self.proxy_lr)]

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        terms = proxy_terms(outputs, self.proxies, labels, self.margin)
        return terms | repulsion_terms(outputs, labels, self.margin, self.repulsion)


def code_margin(k_bits: int, num_labels: int) -> float:
    """The cosine between two words of the best linear code of k bits that has a word for each of c classes.

    1 - 2 d / k, d being the largest minimum distance of a binary linear code of length k with 2^ceil(log2 c) words.

    Raises:
        InputError: there is no such code, or the table does not have it.
    """
    dimension = max(1, ceil(log2(max(2, num_labels))))
    if k_bits > LONGEST or dimension > min(MOST_WORDS, k_bits):
        raise InputError(
            f"`k_bits` {k_bits}: the table of codes has no margin for {num_labels} classes; give "
            "`method_options` margin=VALUE"
        )
    return 1 - 2 * minimum_distance(k_bits, dimension) / k_bits


def proxy_group(proxies: nn.Parameter, lr: float) -> ParameterGroup:
    """The released optimizer of class proxies: SGD at a constant rate."""
    return {"params": [proxies], "optimizer": torch.optim.SGD, "lr": lr, "momentum": 0.9, "weight_decay": 5e-4}


def proxy_terms(codes: Codes, proxies: Tensor, labels: Tensor, margin: float) -> dict[str, Tensor]:
    """Pull codes to the proxies of their labels, and push them from others beyond a cosine of `margin`.

    Args:
        codes: modality -> (b, k).
        proxies: (c, k).
        labels: 0/1 (b, c).
    """
    to_proxy = {name: cosine(h, proxies) for name, h in codes.items()}  # (b, c)
    return {f"{name} positive": mean_where(1 - c, labels) for name, c in to_proxy.items()} | {
        f"{name} negative": mean_where(torch.relu(c - margin), 1 - labels) for name, c in to_proxy.items()
    }


def repulsion_terms(codes: Codes, labels: Tensor, margin: float, weight: float) -> dict[str, Tensor]:
    """Push apart rows with two or more labels that share none, beyond a cosine of `margin`."""
    several = (labels.sum(dim=1) > 1).float()
    apart = (1 - shared_label(labels, labels)) * several * several[:, None]
    return {
        f"{name} irrelevant": weight * mean_where(torch.relu(cosine(one, two) - margin), apart)
        for name, (one, two) in code_pairs(codes).items()
    }
