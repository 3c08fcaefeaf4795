"""DCHMT: differentiable cross-modal hashing via multimodal transformers.

Tu, Liu, Lin, Hong and Wang, "Differentiable Cross-modal Hashing via Multimodal Transformers", ACM MM 2022. Each bit is
a softmax choice between two classes, so that no sign has to be approximated; the arg-max is the bit. The loss works on
the distances of the batch's codes, within and between the modalities: pairs that share a label are pulled together,
others pushed apart up to half of the bits.

The continuous code here is the difference of the two probabilities, whose sign is the arg-max. Departure: vectors are
layer-normalized first, since stored features come in any scale.
"""

import torch
from torch import Tensor, nn

from math_hash.methods.method import Codes, PooledMethod
from math_hash.methods.objectives import shared_label


class DCHMT(PooledMethod):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        inter, intra: weights of the terms between and within the modalities.
        hidden: width of the heads' hidden layer.
    """

    def __init__(self, width: int, k_bits: int, *, inter: float = 1.0, intra: float = 1.0, hidden: int = 128):
        super().__init__(width, k_bits)
        self.inter, self.intra = inter, intra
        self.heads = nn.ModuleDict({name: BinaryChoice(width, k_bits, hidden) for name in self.streams})

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels[rows], bank_labels[rows])  # (b, b)
        image, text = outputs["image"], outputs["text"]
        return {
            "inter": self.inter * distance_loss(image, text, S),
            "intra": self.intra * (distance_loss(image, image, S) + distance_loss(text, text, S)),
        }


class BinaryChoice(nn.Module):
    """Layer norm, d -> hidden, ReLU, a two-way softmax per bit: the difference of its probabilities, (b, k)."""

    def __init__(self, width: int, k_bits: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2 * k_bits)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        chosen = torch.softmax(self.layers(pooled).unflatten(-1, (-1, 2)), dim=-1)
        return chosen[..., 0] - chosen[..., 1]


def distance_loss(codes: Tensor, others: Tensor, S: Tensor) -> Tensor:
    """Mean over pairs of S d^2 + (1 - S) relu(sqrt(k / 2) - d)^2, divided by k, with d = ||h_i - g_j|| / 2.

    For codes of -1/+1, d^2 is the Hamming distance (the paper's section 3.3, on the two-way outputs).
    """
    k = codes.shape[1]
    squared = (codes.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * codes @ others.T) / 4
    d = squared.clamp(min=1e-4).sqrt()
    return (S * squared + (1 - S) * torch.relu((k / 2) ** 0.5 - d).square()).mean() / k
