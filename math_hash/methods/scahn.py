"""SCAHN: self-constraining and attention-based hashing network for bit-scalable cross-modal retrieval.

Wang, Zou, Bakker and Wu, "Self-constraining and attention-based hashing network for bit-scalable cross-modal
retrieval", Neurocomputing 400, 2020. States of four depths of each tower are hashed separately, and a learned
attention fuses the four into the code. Each of the five outputs carries the pairwise likelihood against the other
modality's bank, against its own, and between the two halves of the batch.

Departures from the release: the depths are those of a CLIP's towers (or the stored stages of a features folder);
inner products are divided by k / 32, so that the likelihood is as steep at any length; and bits are ranked by what
they contribute on the training rows (`math_hash/bits.py`, for any method), since the released ranking sums a softmax
over the stages, which is 1 for every bit and so ranks nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.method import Codes, Gather, Method, StreamFeatures, consensus, hash_head, other
from math_hash.methods.objectives import pairwise_likelihood, quantization, shared_label

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
    """

    needs = Needs(stages=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        stage_widths: tuple[int, int],
        inter: float = 1.0,
        intra: float = 1.0,
        halves: float = 0.01,
        quan: float = 2.0,
    ):
        super().__init__()
        self.k_bits = k_bits
        self.inter, self.intra, self.halves, self.quan = inter, intra, halves, quan
        self.heads = nn.ModuleDict(
            {name: StageHead(size, k_bits) for name, size in zip(self.streams, stage_widths, strict=True)}
        )

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image.stages).fused

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text.stages).fused

    def forward(self, features: StreamFeatures, labels: Tensor, gather: Gather) -> dict[str, Outputs]:
        return {name: Outputs(*map(gather, self.heads[name](features[name].stages))) for name in features}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: found.fused for name, found in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        B = consensus(bank, rows)
        half = len(rows) // 2
        within = shared_label(bank_labels[rows[:half]], bank_labels[rows[half:]])
        scale = self.k_bits / 32
        terms = {"inter": 0.0, "intra": 0.0, "halves": 0.0, "quan": 0.0}
        for name, found in outputs.items():
            for h in (*found.stages.unbind(dim=1), found.fused):
                terms["inter"] += self.inter * pairwise_likelihood(bank[other(name)], h, S, scale)
                terms["intra"] += self.intra * pairwise_likelihood(bank[name], h, S, scale)
                if half:
                    terms["halves"] += self.halves * pairwise_likelihood(h[:half], h[half:], within, scale)
            terms["quan"] += self.quan * quantization(found.fused, B)
        return {name: term for name, term in terms.items() if isinstance(term, Tensor)}


class StageHead(nn.Module):
    """A two-layer head a stage; attention (4, k), drawn around 1/4, weights the four for each bit."""

    def __init__(self, width: int, k_bits: int):
        super().__init__()
        self.stages = nn.ModuleList(hash_head(width, k_bits) for _ in range(STAGES))
        self.attention = nn.Parameter(torch.normal(0.25, 0.01, (STAGES, k_bits)))

    def forward(self, states: Tensor) -> Outputs:
        """(b, 4, width) -> codes of the stages (b, 4, k) and fused ones (b, k)."""
        hashed = [stage(state) for stage, state in zip(self.stages, states.unbind(dim=1), strict=True)]
        codes = torch.stack(hashed, dim=1)
        return Outputs(codes, (self.attention * codes).sum(dim=1))
