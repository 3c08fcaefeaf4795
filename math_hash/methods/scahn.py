"""SCAHN: self-constraining and attention-based hashing network for bit-scalable cross-modal retrieval.

Wang, Zou, Bakker and Wu, "Self-constraining and attention-based hashing network for bit-scalable cross-modal
retrieval", Neurocomputing 400, 2020. States at four depths of each tower are hashed separately, and a learned
attention fuses the four into the code. For each of the five outputs, the pairwise likelihood is taken against the other
modality's bank, against its own, and between the two halves of the batch.

Departures from the release: the depths are those of a CLIP's towers (or the stored stages of a features folder);
inner products are divided by k / 32, so that the likelihood is equally steep at any length; and bits are ranked by
their contribution on the training rows (`math_hash/models/bit_order.py`, for any method), because the released ranking
sums a softmax over the stages, which is 1 for every bit and so ranks nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import hash_head
from math_hash.methods.method import Codes, Method, StreamFeatures, consensus, other
from math_hash.methods.objectives import pairwise_likelihood, quantization, shared_label, total

STAGES = 4


class Outputs(NamedTuple):
    """Codes of the four stages (b, 4, k), and their fusion (b, k)."""

    stages: Tensor
    fused: Tensor


class SCAHN(Method):
    """The heads and the objective.

    Args:
        width: of the encoder's pooled vectors; not used.
        k_bits: k.
        stage_widths: of the image and the text tower's states.
        inter, intra, halves, quan: weights of the terms.
        hidden: width of the heads' hidden layer.
    """

    needs = Needs(stages=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        stage_widths: tuple[int, int],
        *,
        inter: float = 1.0,
        intra: float = 1.0,
        halves: float = 0.01,
        quan: float = 2.0,
        hidden: int = 2048,
    ):
        super().__init__()
        self.k_bits = k_bits
        self.inter, self.intra, self.halves, self.quan = inter, intra, halves, quan
        self.heads = nn.ModuleDict(
            {name: StageHead(size, k_bits, hidden) for name, size in zip(self.streams, stage_widths, strict=True)}
        )

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image.stages).fused

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text.stages).fused

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {name: self.heads[name](stream.stages) for name, stream in features.items()}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: stream.fused for name, stream in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        B = consensus(bank, rows)
        half = len(rows) // 2
        within = shared_label(bank_labels[rows[:half]], bank_labels[rows[half:]])
        scale = self.k_bits / 32
        inter, intra, halves, quan = [], [], [], []
        for name, stream in outputs.items():
            for h in (*stream.stages.unbind(dim=1), stream.fused):
                inter.append(pairwise_likelihood(bank[other(name)], h, S, scale))
                intra.append(pairwise_likelihood(bank[name], h, S, scale))
                if half:
                    halves.append(pairwise_likelihood(h[:half], h[half:], within, scale))
            quan.append(quantization(stream.fused, B))
        weighted = {
            "inter": (self.inter, inter),
            "intra": (self.intra, intra),
            "halves": (self.halves, halves),
            "quan": (self.quan, quan),
        }
        return {name: total(weight * term for term in terms) for name, (weight, terms) in weighted.items() if terms}


class StageHead(nn.Module):
    """A two-layer head per stage; attention (4, k), initialized around 1/4, weights the four for each bit."""

    def __init__(self, width: int, k_bits: int, hidden: int):
        super().__init__()
        self.stages = nn.ModuleList(hash_head(width, k_bits, hidden) for _ in range(STAGES))
        self.attention = nn.Parameter(torch.normal(0.25, 0.01, (STAGES, k_bits)))

    def forward(self, states: Tensor) -> Outputs:
        """(b, 4, width) -> codes of the stages (b, 4, k) and fused ones (b, k)."""
        hashed = [stage(state) for stage, state in zip(self.stages, states.unbind(dim=1), strict=True)]
        codes = torch.stack(hashed, dim=1)
        return Outputs(codes, (self.attention * codes).sum(dim=1))
