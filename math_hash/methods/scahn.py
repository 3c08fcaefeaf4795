"""SCAHN: self-constraining and attention-based hashing network for bit-scalable cross-modal retrieval.

Wang, Zou, Bakker and Wu, "Self-constraining and attention-based hashing network for bit-scalable cross-modal
retrieval", Neurocomputing 400, 2020. States at four depths of each tower are hashed separately, and a learned
attention fuses the four, followed by a tanh, into the code. For these five outputs, the pairwise likelihood is taken
against the other modality's bank, against its own, and between two batches (here the halves of one); inner products
are divided by k / 32. Image and text are updated in turn; the binary codes B are renewed once per epoch.

Departures from the release: the depths are those of a CLIP's towers (or the stored stages of a features folder); and
bits are ranked by their contribution on the training rows (`math_hash/models/bit_order.py`, for any method), because
the released ranking (`released_bit_scores`) gives all bits the same score.
"""

from math import inf
from typing import NamedTuple

import torch
from torch import Tensor, nn

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import hash_head
from math_hash.methods.method import Codes, Method, StreamFeatures, other, renew_binary
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
        hidden: width of the heads' hidden layer; 0 for one linear layer.
    """

    turns = (("image",), ("text",))
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

    @property
    def banks(self) -> dict[str, int]:
        return super().banks | {"binary": self.k_bits}

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        renew_binary(bank, self.streams)

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
        half = len(rows) // 2
        within = shared_label(bank_labels[rows[:half]], bank_labels[rows[half : 2 * half]])
        terms = {}
        for name, stream in outputs.items():
            codes = (*stream.stages.unbind(dim=1), stream.fused)
            terms[f"{name} inter"] = self.inter * self._likelihood([(bank[other(name)], h) for h in codes], S)
            terms[f"{name} intra"] = self.intra * self._likelihood([(bank[name], h) for h in codes], S)
            if half:
                pairs = [(h[:half], h[half : 2 * half]) for h in codes]
                terms[f"{name} halves"] = self.halves * self._likelihood(pairs, within)
            terms[f"{name} quan"] = self.quan * quantization(stream.fused, bank["binary"][rows])
        return terms

    def _likelihood(self, pairs: list[tuple[Tensor, Tensor]], S: Tensor) -> Tensor:
        """Mean over the five outputs."""
        scale = self.k_bits / 32
        return total(pairwise_likelihood(one, two, S, scale, inf) for one, two in pairs) / len(pairs)


class StageHead(nn.Module):
    """A head per stage; attention (4, k), drawn from N(1/4, 1/k), weights the four for each bit; tanh."""

    def __init__(self, width: int, k_bits: int, hidden: int):
        super().__init__()
        self.stages = nn.ModuleList(hash_head(width, k_bits, hidden) for _ in range(STAGES))
        self.attention = nn.Parameter(torch.normal(0.25, 1 / k_bits, (STAGES, k_bits)))

    def forward(self, states: Tensor) -> Outputs:
        """(b, 4, width) -> codes of the stages (b, 4, k) and fused ones (b, k)."""
        hashed = [stage(state) for stage, state in zip(self.stages, states.unbind(dim=1), strict=True)]
        codes = torch.stack(hashed, dim=1)
        return Outputs(codes, self.fuse(codes))

    def fuse(self, codes: Tensor) -> Tensor:
        """Codes of the stages (b, 4, k) -> (b, k) in (-1, 1)."""
        return torch.tanh((self.attention * codes).sum(dim=1))


def released_bit_scores(image_attention: Tensor, text_attention: Tensor) -> Tensor:
    """The release's score of each bit, (k,): a softmax of each attention (4, k) over the stages, summed over them.

    A softmax sums to 1, so every bit scores 2: the released selection of bits is arbitrary.
    """
    return total(attention.softmax(dim=0).sum(dim=0) for attention in (image_attention, text_attention))
