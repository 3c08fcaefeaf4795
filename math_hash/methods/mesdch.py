"""MESDCH: multi-label enhancement based self-supervised deep cross-modal hashing.

Zou et al., "Multi-label enhancement based self-supervised deep cross-modal hashing", Neurocomputing 467, 2022. A
network hashes the multi-hot label rows and supervises image and text: for a pair of streams, the cosine C of two
rows' labels against c = relu(cosine of their codes) under the positive-constraint Kullback-Leibler term.

Departures from the release: a CLIP with a two-layer head per modality, and for labels if `label_net` does not say
otherwise.
"""

from typing import Literal

import torch
from torch import Tensor

from math_hash.methods.layers import hash_head
from math_hash.methods.method import Codes, EpochBinary
from math_hash.methods.multi_scale import LABEL_POOLS, MultiScaleHead
from math_hash.methods.objectives import cosine, quantization


class MESDCH(EpochBinary):
    """The objective, on a two-layer head per modality and one on the labels.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        label_net: "layers", a head like the images', or "multi-scale", the released network on label rows.
        own, quan: weights of the term within a stream and of quantization.
        label_image, label_text, modality_label: weights of the label stream's terms against the image and the text
            bank, and of an image's or text's term against the label bank.
        hidden: width of the heads' hidden layer.
    """

    streams = ("image", "text", "label")
    turns = (("label",), ("image",), ("text",))

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        label_net: Literal["layers", "multi-scale"] = "layers",
        own: float = 1.9,
        quan: float = 0.9,
        label_image: float = 1.0,
        label_text: float = 0.3,
        modality_label: float = 1.0,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        multi_scale = label_net == "multi-scale"
        self.heads["label"] = (
            MultiScaleHead(num_labels, k_bits, LABEL_POOLS) if multi_scale else hash_head(num_labels, k_bits, hidden)
        )
        self.own, self.quan = own, quan
        self.against = {
            "label": {"image": label_image, "text": label_text},
            "image": {"label": modality_label},
            "text": {"label": modality_label},
        }

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        C = cosine(bank_labels, bank_labels[rows])  # (n, b)
        B = bank["binary"][rows]
        terms = {}
        for name, h in outputs.items():
            terms[f"{name} own"] = self.own * positive_divergence(C, cosine(bank[name], h))
            for stream, weight in self.against[name].items():
                terms[f"{name} {stream}"] = weight * positive_divergence(C, cosine(bank[stream], h))
            terms[f"{name} quan"] = self.quan * quantization(h, B)
        return terms


def positive_divergence(C: Tensor, cosines: Tensor, eps: float = 1e-5) -> Tensor:
    """Positive-constraint Kullback-Leibler term: mean((C - c) log((eps + C) / (eps + c))), c = relu(cosines)."""
    c = torch.relu(cosines)
    return ((C - c) * torch.log((eps + C) / (eps + c))).mean()
