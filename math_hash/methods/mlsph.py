"""MLSPH: multi-label semantics preserving hashing.

Zou et al., "Multi-label semantics preserving based deep cross-modal hashing", Signal Processing: Image Communication
93, 2021. The target for the cosine of two codes is the Jaccard index of their rows' label sets; a memory bank holds the
latest codes, image and text are updated in turn, and the binary codes B are renewed once per epoch.

As released, the target is 2 J, which a cosine reaches only up to J = 1/2; `centered` makes it 2 J - 1, the range of a
cosine. Departures from the release: a CLIP with a two-layer head per modality, if `text_net` does not say otherwise.
"""

from typing import Literal

from torch import Tensor

from math_hash.methods.method import Codes, EpochBinary, other
from math_hash.methods.multi_scale import TEXT_POOLS, MultiScaleHead
from math_hash.methods.objectives import cosine, jaccard, quantization


class MLSPH(EpochBinary):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        centered: target 2 J - 1 instead of 2 J.
        text_net: "layers", a head like the images', or "multi-scale", the released network on text vectors.
        intra, quan, scale: weights of the intra-modal and the quantization term, and of all of them.
        hidden: width of the heads' hidden layer.
    """

    turns = (("image",), ("text",))

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        centered: bool = False,
        text_net: Literal["layers", "multi-scale"] = "layers",
        intra: float = 1.4,
        quan: float = 0.1,
        scale: float = 10.0,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        if text_net == "multi-scale":
            self.heads["text"] = MultiScaleHead(width, k_bits, TEXT_POOLS)
        self.centered, self.intra, self.quan, self.scale = centered, intra, quan, scale

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        T = 2 * jaccard(bank_labels, bank_labels[rows]) - float(self.centered)  # (n, b)
        B = bank["binary"][rows]
        terms = {}
        for name, h in outputs.items():
            terms[f"{name} inter"] = self.scale * (T - cosine(bank[other(name)], h)).square().mean()
            terms[f"{name} intra"] = self.scale * self.intra * (T - cosine(bank[name], h)).square().mean()
            terms[f"{name} quan"] = self.scale * self.quan * quantization(h, B)
        return terms
