"""DCHMT: differentiable cross-modal hashing via multimodal transformers.

Tu, Liu, Lin, Hong and Wang, "Differentiable Cross-modal Hashing via Multimodal Transformers", ACM MM 2022. Each bit is
a softmax choice between two classes, so that no sign has to be approximated; the arg-max is the bit. The loss works on
the distances of the batch's choices, within and between the modalities: pairs that share a label are pulled together,
others pushed apart up to a largest distance. Heads, terms and options are those of the release.

The continuous code here is the difference of a bit's two probabilities, whose sign is the arg-max.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from math_hash.encoders.features import Features
from math_hash.methods.layers import hash_head
from math_hash.methods.method import Codes, PooledMethod, StreamFeatures
from math_hash.methods.objectives import cosine, distances, shared_label

_NEAR = 0.1  # cosine distance up to which a similar pair costs nothing


class DCHMT(PooledMethod):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        inter, intra, quan: weights of the terms between and within the modalities, and of quantization ("linear" only).
        codes: "softmax" for a choice per bit, or "linear" for tanh codes.
        distance: between two rows' choices.
        norm: "l2" squares the differences of distances, "l1" does not.
        vartheta: the largest distance is that of this share of the 2 k values being different, in (0, 1].
        hidden: width of the heads' hidden layer ("softmax" only).
        layer_norm: normalize the vectors first, for stored features of any scale.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        inter: float = 1.0,
        intra: float = 1.0,
        quan: float = 1.0,
        codes: Literal["softmax", "linear"] = "softmax",
        distance: Literal["euclidean", "cosine"] = "euclidean",
        norm: Literal["l2", "l1"] = "l2",
        vartheta: float = 0.5,
        hidden: int = 128,
        layer_norm: bool = False,
    ):
        super().__init__(width, k_bits, hidden=0)
        self.inter, self.intra, self.quan = inter, intra, quan
        self.linear, self.distance, self.power = codes == "linear", distance, {"l2": 2, "l1": 1}[norm]
        self.largest = (2 * k_bits * vartheta) ** 0.5
        self.heads = nn.ModuleDict(
            {
                name: hash_head(width, k_bits, 0) if self.linear else BinaryChoice(width, k_bits, hidden, layer_norm)
                for name in self.streams
            }
        )

    def hash_image(self, image: Features) -> Tensor:
        return self._codes(self.heads["image"](image.pooled))

    def hash_text(self, text: Features) -> Tensor:
        return self._codes(self.heads["text"](text.pooled))

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        """Stream -> probabilities (b, k, 2), or codes (b, k) of linear heads."""
        return {name: self.heads[name](stream.pooled) for name, stream in features.items()}

    def bank_codes(self, outputs: Codes) -> Codes:
        return {name: self._codes(values) for name, values in outputs.items()}

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels[rows], bank_labels[rows])  # (b, b)
        image, text = (outputs[name].flatten(1) for name in self.streams)
        terms: dict[str, Tensor] = {}
        for name, weight, pair in (
            ("cross", self.inter, (image, text)),
            ("image", self.intra, (image, image)),
            ("text", self.intra, (text, text)),
        ):
            positive, negative = self._near_and_far(*pair, S)
            terms |= {f"{name} positive": weight * positive, f"{name} negative": weight * negative}
        if self.linear:
            errors = [(h.detach().sign() - h).norm(dim=1).mean() for h in (image, text)]
            terms["quan"] = self.quan * 0.25 * (errors[0] + errors[1])
        return terms

    def _near_and_far(self, codes: Tensor, others: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        if self.distance == "cosine":
            D, largest = 1 - cosine(codes, others), 1.0
            near = torch.relu(D - _NEAR) * S
        else:
            D, largest = distances(codes, others), self.largest
            near = D * S
        far = largest * (1 - S) - (D * (1 - S)).clamp(max=largest)
        return near.pow(self.power).mean(), far.pow(self.power).mean()

    def _codes(self, values: Tensor) -> Tensor:
        return values if self.linear else values[..., 1] - values[..., 0]


class BinaryChoice(nn.Module):
    """d -> hidden, ReLU, a two-way softmax per bit: probabilities (b, k, 2); optionally a layer norm first."""

    def __init__(self, width: int, k_bits: int, hidden: int, layer_norm: bool):
        super().__init__()
        first = [nn.LayerNorm(width)] if layer_norm else []
        self.layers = nn.Sequential(*first, nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2 * k_bits))

    def forward(self, pooled: Tensor) -> Tensor:
        return torch.softmax(self.layers(pooled).unflatten(-1, (-1, 2)), dim=-1)
