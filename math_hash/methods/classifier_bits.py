"""Classifier bits: the outputs of a plain linear classifier as a code, a floor for supervised methods.

Sablayrolles, Douze, Usunier and Jegou, "How should we evaluate supervised hashing?", ICASSP 2017: where queries have
the classes of training, codes that say nothing but the class do well. One linear classifier per modality is trained by
binary cross-entropy over the labels; the code is a fixed random rotation of its probabilities' deviations from the
classes' rates, so that k bits may be fewer or more than the classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.encoders.features import Features
from math_hash.methods.method import Codes, Method, StreamFeatures, TrainingSet


class ClassifierBits(Method):
    """The classifiers.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
    """

    rates: Tensor
    rotation: Tensor

    def __init__(self, width: int, k_bits: int, num_labels: int):
        super().__init__()
        self.k_bits = k_bits
        self.classifiers = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_labels)) for name in self.streams}
        )
        self.register_buffer("rates", torch.full((num_labels,), 0.5))
        size = max(k_bits, num_labels)
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(size, size)).Q[:num_labels, :k_bits].clone())

    def prepare(self, training: TrainingSet) -> None:
        self.rates.copy_(training.labels.to(self.rates.dtype).mean(dim=0))

    def hash_image(self, image: Features) -> Tensor:
        return self._code(self.classifiers["image"](image.pooled))

    def hash_text(self, text: Features) -> Tensor:
        return self._code(self.classifiers["text"](text.pooled))

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        """Stream -> class scores (b, c)."""
        return {name: self.classifiers[name](stream.pooled) for name, stream in features.items()}

    def bank_codes(self, outputs: Codes) -> Codes:
        return {name: self._code(scores) for name, scores in outputs.items()}

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        return {name: F.binary_cross_entropy_with_logits(scores, labels) for name, scores in outputs.items()}

    def _code(self, scores: Tensor) -> Tensor:
        return torch.tanh((torch.sigmoid(scores) - self.rates) @ self.rotation)
