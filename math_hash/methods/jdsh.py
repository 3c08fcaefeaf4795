"""JDSH: joint-modal distribution-based similarity hashing, which needs no labels.

Liu, Qian, Guan, Zhan and Ying, "Joint-modal Distribution-based Similarity Hashing for Large-scale Unsupervised Deep
Cross-modal Retrieval", SIGIR 2020. The codes reconstruct a joint similarity S of the features that the encoder has
before training; values far to the left or right of the distribution of S are moved further out. Terms, constants and
the growing tanh are those of the release (`weighting` chooses between its two sets of constants).
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.methods.growing_tanh import GrowingTanh
from math_hash.methods.method import Codes, TrainingSet
from math_hash.methods.objectives import cosine


class Weighting(NamedTuple):
    """Constants of the similarity.

    `image`, `text`, `joint`: shares of the two similarities and of the second-order one. Below `left`, S is multiplied
    by 1 + `raise_left` exp(-(S - `least`)); then, above `right`, by 1 + `raise_right` exp(S - `most`).
    """

    image: float
    text: float
    joint: float
    left: float
    least: float
    raise_left: float
    right: float
    most: float
    raise_right: float


# the borders are centers of two normal distributions, minus 2 and plus 4 of their deviations
WEIGHTINGS = {
    "mirflickr": Weighting(0.5, 0.1, 0.4, -0.49 - 2 * 0.019, -0.52, 0.1, -0.49 + 4 * 0.088, 0.68, 0.2),
    "nuswide": Weighting(0.4, 0.3, 0.3, -0.62 - 2 * 0.0128, -0.64, 0.2, -0.62 + 4 * 0.086, 0.75, 0.2),
}


class JDSH(GrowingTanh):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        weighting: the constants of the similarity that were released for this dataset.
        mu: scale of the similarity.
        within: weight of the terms within a modality.
        hidden: width of the heads' hidden layer; 0 for one linear layer.
    """

    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        weighting: Literal["mirflickr", "nuswide"] = "mirflickr",
        mu: float = 1.4,
        within: float = 0.1,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.weighting, self.mu, self.within = WEIGHTINGS[weighting], mu, within

    def prepare(self, training: TrainingSet) -> None:
        self.features = training.image, training.text

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        image_features, text_features = (features[rows] for features in self.features)
        S = self.mu * distribution_similarity(image_features, text_features, self.weighting)
        image, text = outputs["image"], outputs["text"]
        cross = cosine(image, text)
        return {
            "image": self.within * (cosine(image, image) - S).square().mean(),
            "cross": (cross - S).square().mean() + (cross.T - S).square().mean() - cross.diagonal().mean(),
            "text": self.within * (cosine(text, text) - S).square().mean(),
        }


def distribution_similarity(image: Tensor, text: Tensor, w: Weighting) -> Tensor:
    """The joint similarity of a batch's features (b, d), with its far values moved out: (b, b)."""
    by_image, by_text = 2 * cosine(image, image) - 1, 2 * cosine(text, text) - 1
    second = F.normalize(by_image, dim=1) @ F.normalize(by_text, dim=1).T
    S = w.image * by_image + w.text * by_text + w.joint * (second + second.T) / 2
    S = torch.where(w.left > S, S * (1 + w.raise_left * torch.exp(-(S - w.least))), S)
    return torch.where(w.right < S, S * (1 + w.raise_right * torch.exp(S - w.most)), S)
