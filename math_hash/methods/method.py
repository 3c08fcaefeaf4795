"""What a hash method is to the rest of the package."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.objectives import sign

# joins a batch's rows from all processes, with gradients: (b_local, ...) -> (b, ...)
Gather = Callable[[Tensor], Tensor]
Codes = dict[str, Tensor]
StreamFeatures = dict[str, Features | None]


class Method(nn.Module):
    """A hash head on an encoder's features, and its objective.

    A method's constructor takes `width` and `k_bits`, and what else it wants as keywords: options of `Config` by their
    names, `num_labels` (c), `stage_widths` (of the image and the text tower), and options of its own with defaults.

    Attributes:
        streams: names of its code banks.
        turns: streams whose parameters learn together; an epoch passes over the training rows once a turn.
        needs: what it uses of "labels" (0/1 rows), "tokens", "stages" (of four depths), "label_text" (the names of an
            instance's labels, encoded as a text), "padding" (tokens that no text of a batch has).
        is_trained: False for methods that are fitted to pooled vectors instead (see `methods/training_free.py`).
        k_bits: k.
    """

    streams: tuple[str, ...] = ("image", "text")
    turns: tuple[tuple[str, ...], ...] = (("image", "text"),)
    needs: Needs = Needs()
    is_trained: bool = True
    k_bits: int

    def hash_image(self, image: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of images alone."""
        raise NotImplementedError

    def hash_text(self, text: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of texts alone."""
        raise NotImplementedError

    def forward(self, features: StreamFeatures, labels: Tensor, gather: Gather) -> Any:
        """Whatever the objective needs of a training batch, each tensor gathered to all of the batch's b rows.

        Args:
            features: of each stream in this turn; None for "label" where its text is not among `needs`.
            labels: 0/1 (b_local, c), of this process's rows.
        """
        raise NotImplementedError

    def bank_codes(self, outputs: Any) -> Codes:
        """The codes that go into the banks: stream -> (b, k)."""
        raise NotImplementedError

    def loss_terms(self, outputs: Any, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the objective; their sum is minimised.

        Args:
            outputs: what `forward` returned.
            bank: stream -> (n, k), the latest codes of the training rows, the batch's included; constant.
            bank_labels: 0/1 (n, c).
            rows: int64 (b,), places of the batch's rows in the bank.
        """
        raise NotImplementedError


class PooledMethod(Method):
    """A two-layer head a modality on the pooled vectors, as the CNN-era methods have; the codes are all it outputs.

    A subclass gives `loss_terms`. Its `outputs` are stream -> (b, k), of the streams in this turn.
    """

    def __init__(self, width: int, k_bits: int):
        super().__init__()
        self.k_bits = k_bits
        self.heads = nn.ModuleDict({name: hash_head(width, k_bits) for name in ("image", "text")})

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image.pooled)

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text.pooled)

    def forward(self, features: StreamFeatures, labels: Tensor, gather: Gather) -> Codes:
        return {name: gather(self.heads[name](features[name].pooled)) for name in features if name != "label"}

    def bank_codes(self, outputs: Codes) -> Codes:
        return outputs


def hash_head(width: int, k_bits: int, hidden: int = 2048) -> nn.Sequential:
    """Two layers from a vector (b, width) of any scale to codes (b, k) in (-1, 1)."""
    layers = nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, k_bits), nn.Tanh()
    return nn.Sequential(*layers)


def consensus(bank: Codes, rows: Tensor) -> Tensor:
    """B: the sign of the sum of some rows' latest codes over all streams, -1/+1 (b, k)."""
    return sign(torch.stack([codes[rows] for codes in bank.values()]).sum(dim=0))


def other(stream: str) -> str:
    """The other one of image and text."""
    return {"image": "text", "text": "image"}[stream]
