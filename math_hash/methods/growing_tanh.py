"""Codes tanh(a x) whose factor a = sqrt(epoch + 1) grows during training, as label-free methods have them."""

from math import sqrt

import torch
from torch import Tensor, nn

from math_hash.encoders.features import Features
from math_hash.methods.method import Codes, PooledMethod, StreamFeatures


class GrowingTanh(PooledMethod):
    """A `PooledMethod` with codes tanh(sqrt(epoch + 1) x), epochs counted from 0.

    So that tanh approaches the sign (Cao et al., "HashNet", ICCV 2017, section 3.2).
    """

    factor: Tensor

    def __init__(self, width: int, k_bits: int, *, hidden: int = 2048, dropout: float = 0.0):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.register_buffer("factor", torch.ones(()))

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.factor.fill_(sqrt(epoch))

    def hash_image(self, image: Features) -> Tensor:
        return self._hash("image", image)

    def hash_text(self, text: Features) -> Tensor:
        return self._hash("text", text)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        return {name: self._hash(name, stream) for name, stream in features.items()}

    def _hash(self, name: str, features: Features) -> Tensor:
        *layers, _ = self.heads[name].children()
        return torch.tanh(self.factor * nn.Sequential(*layers)(features.pooled))
