"""DJSRH: deep joint-semantics reconstructing hashing, which needs no labels.

Su, Zhong and Zhang, "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised Cross-Modal Retrieval",
ICCV 2019. How alike two instances are is read off the encoder's own features, both modalities together; the codes
reconstruct it.

Departures from the paper: the features are centred over the batch before their cosines are taken, since CLIP's vectors
all lie in one narrow cone; the codes are tanh of a two-layer head a modality, without the growing factor inside tanh,
with a quantization term in its place; and a contrastive term between the codes of an image and of its own text is
added, without which an encoder that was not trained on pairs learns little.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.encoders.features import Features
from math_hash.methods.method import Gather, Method
from math_hash.objectives import info_nce, quantization, sign


class Outputs(NamedTuple):
    """Pooled features (b, d) and codes (b, k) of both modalities."""

    image_features: Tensor
    text_features: Tensor
    image: Tensor
    text: Tensor


class DJSRH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
    """

    streams = ("image", "text")
    needs_labels = False

    # the paper's section 4.1: weight of the images' affinity, of second-order affinity, scale, weight within a modality
    beta, eta, mu, within = 0.6, 0.4, 1.5, 0.1
    contrast, quan, temperature = 1.0, 0.1, 0.2  # of the terms that are not the paper's

    def __init__(self, width: int, k_bits: int):
        super().__init__()
        self.k_bits = k_bits
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, k_bits), nn.Tanh())
                for name in self.streams
            }
        )

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image.pooled)

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text.pooled)

    def forward(self, image: Features, text: Features, label: Features, gather: Gather) -> Outputs:
        parts = (image.pooled, text.pooled, self.hash_image(image), self.hash_text(text))
        return Outputs(*map(gather, parts))

    def bank_codes(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"image": outputs.image, "text": outputs.text}

    def loss_terms(
        self, outputs: Outputs, labels: Tensor, bank: dict[str, Tensor], bank_labels: Tensor
    ) -> dict[str, Tensor]:
        S = self.mu * joint_semantics(outputs.image_features, outputs.text_features, self.beta, self.eta)
        image, text = F.normalize(outputs.image), F.normalize(outputs.text)
        B = sign(outputs.image.detach() + outputs.text.detach())
        return {
            "inter": (S - image @ text.T).square().mean(),
            "intra": self.within * ((S - image @ image.T).square().mean() + (S - text @ text.T).square().mean()),
            "contrast": self.contrast * info_nce(outputs.image, outputs.text, self.temperature),
            "quan": self.quan * (quantization(outputs.image, B) + quantization(outputs.text, B)),
        }


def joint_semantics(image: Tensor, text: Tensor, beta: float, eta: float) -> Tensor:
    """Joint-semantics affinity of a batch (section 3.3, equations 3 and 4): (b, b), constant.

    S~ = beta C_I + (1 - beta) C_T, with C the cosines of the centred features, and
    S = (1 - eta) S~ + eta S~ S~^T / b.
    """

    def cosines(features: Tensor) -> Tensor:
        unit = F.normalize(features - features.mean(dim=0))
        return unit @ unit.T

    with torch.no_grad():
        S = beta * cosines(image) + (1 - beta) * cosines(text)
        return (1 - eta) * S + eta * S @ S.T / len(S)
