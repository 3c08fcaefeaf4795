"""DPBE: deep probabilistic binary embedding via learning reliable uncertainty for cross-modal retrieval.

"Deep Probabilistic Binary Embedding via Learning Reliable Uncertainty for Cross-Modal Retrieval", ACM MM 2024, as its
authors released it in their collection of CLIP-based hashing (QinLab). The cosine of two codes is fitted to A = 2
sigmoid(number of shared labels) - 1.

Its Laplace approximation, which draws the heads' weights anew for each of 5 samples, is left out: in the release each
sample's loss replaces the one before, so that only the last one trains, at a fifth, and no numbers of it exist.
"""

import torch
from torch import Tensor

from math_hash.methods.method import Codes, PooledMethod, code_pairs
from math_hash.methods.objectives import cosine


class DPBE(PooledMethod):
    """The objective, on a linear head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(self, width: int, k_bits: int, *, hidden: int = 0, dropout: float = 0.2):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        A = 2 * torch.sigmoid(labels @ labels.T) - 1
        return {name: (cosine(one, two) - A).square().mean() for name, (one, two) in code_pairs(outputs).items()}
