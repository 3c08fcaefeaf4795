"""DJSRH: deep joint-semantics reconstructing hashing, which needs no labels.

Su, Zhong and Zhang, "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised Cross-Modal Retrieval",
ICCV 2019. The similarity of two instances is computed from the encoder's own features, both modalities together; the
codes reconstruct it.

Departures from the paper: the features are centered over the batch before their cosines are taken, since CLIP's vectors
all lie in one narrow cone; the codes are tanh of a two-layer head per modality, with a quantization term in place of
the growing factor inside tanh; and a contrastive term between the codes of an image and of its own text is added,
without which an encoder that was not trained on pairs learns little.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from math_hash.data import Needs
from math_hash.methods.method import Codes, PooledMethod, StreamFeatures, consensus
from math_hash.methods.objectives import cosine, info_nce, quantization


class Outputs(NamedTuple):
    """Pooled features (b, d) and codes (b, k) of both modalities."""

    image_features: Tensor
    text_features: Tensor
    image: Tensor
    text: Tensor


class DJSRH(PooledMethod):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        beta, eta, mu: weight of the images' affinity, weight of the second-order affinity, and scale (section 4.1).
        within: weight of the terms within a modality.
        contrast, quan: weights of the two terms that the paper does not have.
        temperature: of the contrastive term.
        hidden: width of the heads' hidden layer.
    """

    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        beta: float = 0.6,
        eta: float = 0.4,
        mu: float = 1.5,
        within: float = 0.1,
        contrast: float = 1.0,
        quan: float = 0.1,
        temperature: float = 0.2,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.beta, self.eta, self.mu, self.within = beta, eta, mu, within
        self.contrast, self.quan, self.temperature = contrast, quan, temperature

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Outputs:
        image, text = features["image"], features["text"]
        return Outputs(image.pooled, text.pooled, self.hash_image(image), self.hash_text(text))

    def bank_codes(self, outputs: Outputs) -> Codes:
        return {"image": outputs.image, "text": outputs.text}

    def loss_terms(self, outputs: Outputs, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = self.mu * joint_semantics(outputs.image_features, outputs.text_features, self.beta, self.eta)
        image, text, B = outputs.image, outputs.text, consensus(bank, rows)
        within = (S - cosine(image, image)).square().mean() + (S - cosine(text, text)).square().mean()
        return {
            "inter": (S - cosine(image, text)).square().mean(),
            "intra": self.within * within,
            "contrast": self.contrast * info_nce(image, text, self.temperature),
            "quan": self.quan * (quantization(image, B) + quantization(text, B)),
        }


def joint_semantics(image: Tensor, text: Tensor, beta: float, eta: float) -> Tensor:
    """Joint-semantics affinity of a batch (section 3.3, equations 3 and 4): (b, b), constant.

    S~ = beta C_I + (1 - beta) C_T, with C the cosines of the centered features, and
    S = (1 - eta) S~ + eta S~ S~^T / b.
    """

    with torch.no_grad():
        image, text = (features - features.mean(dim=0) for features in (image, text))
        S = beta * cosine(image, image) + (1 - beta) * cosine(text, text)
        return (1 - eta) * S + eta * S @ S.T / len(S)
