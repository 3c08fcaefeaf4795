"""Pairwise: two plain heads and one likelihood, a floor for supervised methods.

A layer norm, one hidden layer and dropout per modality; the pairwise likelihood of DCMH (Jiang and Li, CVPR 2017,
section 3.2) of the codes of both modalities against the banks of both; and a little quantization.
"""

from torch import Tensor

from math_hash.methods.method import Codes, PooledMethod, consensus
from math_hash.methods.objectives import pairwise_likelihood, quantization, shared_label, total


class Pairwise(PooledMethod):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        quan: weight of quantization.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(self, width: int, k_bits: int, *, quan: float = 0.1, hidden: int = 1024, dropout: float = 0.3):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.quan = quan

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        B = consensus(bank, rows)
        return {
            "likelihood": total(pairwise_likelihood(codes, h, S) for codes in bank.values() for h in outputs.values()),
            "quan": self.quan * total(quantization(h, B) for h in outputs.values()),
        }
