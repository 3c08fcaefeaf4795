"""The interface of a hash method.

A method is one class in one file. It is found by its name among the package's own methods or among those that installed
packages register (entry-point group `math_hash.methods`), or as `package.module:Class`; see `methods/registry.py`.
`math_hash.testing.check_method` tests a class against the whole contract.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from math_hash.data.needs import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import hash_head
from math_hash.methods.objectives import sign

Codes: TypeAlias = dict[str, Tensor]
StreamFeatures: TypeAlias = dict[str, Features]
ParameterGroup: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class TrainingSet:
    """What `Method.prepare` receives: all n training rows.

    Attributes:
        image: float32 (n, d), the encoder's pooled vectors at the start of training.
        text: float32 (n, d), likewise.
        labels: 0/1 (n, c).
    """

    image: Tensor
    text: Tensor
    labels: Tensor


class Method(nn.Module, ABC):
    """A hash head on an encoder's features, and its objective.

    The constructor takes `width` (d, of the encoder's pooled vectors and tokens) and `k_bits`; if it has parameters of
    these names, also `num_labels` (c) and `stage_widths` (of the image and the text tower's states). The parameters
    after `*` are the method's own options: keywords with types and defaults, which `--set name=value` changes and
    which are saved with the model.

    Attributes:
        streams: names of the streams that the method hashes.
        turns: streams whose parameters are updated together; in an epoch, each turn passes over all training rows.
        needs: the features and labels that it needs.
        trained_by_gradient: False for a method that is fitted once to the training rows' vectors, by `fit`.
        k_bits: k.
    """

    streams: tuple[str, ...] = ("image", "text")
    turns: tuple[tuple[str, ...], ...] = (("image", "text"),)
    needs: Needs = Needs()
    trained_by_gradient: bool = True
    k_bits: int

    @abstractmethod
    def hash_image(self, image: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of images alone."""

    @abstractmethod
    def hash_text(self, text: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of texts alone."""

    @property
    def banks(self) -> dict[str, int]:
        """Its code banks, (n_train, width) each: name -> width; "image" and "text" have k and rank the bits."""
        return dict.fromkeys(self.streams, self.k_bits)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Any:
        """Everything that the objective needs from this process's rows of a training batch.

        Args:
            features: of each stream in this turn. Those of "label" are of the labels' names, encoded as a text; without
                `needs.label_text`, its pooled vectors are the 0/1 rows (b_local, c) themselves.
            labels: 0/1 (b_local, c).

        Returns:
            Dictionaries, lists and (named) tuples of tensors (b_local, ...). The loop gathers each tensor into the b
            rows of the whole batch before it calls `bank_codes` and `loss_terms`.
        """
        raise NotImplementedError

    def bank_codes(self, outputs: Any) -> Codes:
        """The codes to write into the banks: bank -> (b, k), for any of `banks`."""
        raise NotImplementedError

    def loss_terms(self, outputs: Any, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the objective; their sum is minimized.

        Args:
            outputs: the gathered result of `outputs`.
            bank: bank -> (n, k), the latest codes of the training rows, including the batch's; no gradient. A method
                may write here what depends on earlier codes, in place; all processes do the same.
            bank_labels: 0/1 (n, c).
            rows: int64 (b,), positions of the batch's rows in the bank.
        """
        raise NotImplementedError

    def prepare(self, training: TrainingSet) -> None:
        """Called before training, and again before a run is resumed, if a method overrides it.

        What it sets must be a function of its input; what is saved with the model must be registered in the
        constructor.
        """

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        """Called at the start of each epoch, from 1 to `epochs`.

        Args:
            epoch, epochs: number of this epoch, from 1, and of all.
            bank: bank -> (n, k), which the method may change in place; random normal before the first epoch.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with other settings than the rest, as `torch.optim`'s parameter groups.

        Each group has "params". "optimizer" is a class of `torch.optim` that takes the group's other entries (lr,
        momentum, ...) and keeps this rate throughout. Without "optimizer", the group belongs to BertAdam, with its
        schedule.
        """
        return []

    def fit(self, image: Tensor, text: Tensor, seed: int) -> None:
        """Instead of training, set the parameters from the training rows' pooled vectors, float32 (n, d)."""
        raise NotImplementedError


class PooledMethod(Method):
    """A head per modality on the pooled vectors; its outputs are the codes.

    A subclass implements `loss_terms`. Its `outputs` are stream -> (b, k), for the streams in this turn.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        hidden: width of the hidden layer, as methods of the CNN era have it here; 0 for one linear layer, as the
            releases on CLIP have it.
        dropout: probability of dropout before the last activation (without a hidden layer) or after the hidden layer.
    """

    def __init__(self, width: int, k_bits: int, *, hidden: int = 2048, dropout: float = 0.0):
        super().__init__()
        self.k_bits = k_bits
        self.heads = nn.ModuleDict({name: hash_head(width, k_bits, hidden, dropout) for name in ("image", "text")})

    def hash_image(self, image: Features) -> Tensor:
        return self.heads["image"](image.pooled)

    def hash_text(self, text: Features) -> Tensor:
        return self.heads["text"](text.pooled)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Any:
        return {name: self.heads[name](stream.pooled) for name, stream in features.items()}

    def bank_codes(self, outputs: Any) -> Codes:
        return outputs


def consensus(bank: Codes, rows: Tensor) -> Tensor:
    """B: the sign of the sum of some rows' latest codes over all banks, -1/+1 (b, k)."""
    return sign(torch.stack([codes[rows] for codes in bank.values()]).sum(dim=0))


class EpochBinary(PooledMethod):
    """A `PooledMethod` with a bank "binary": B = sign(sum of the streams' banks), renewed once per epoch."""

    @property
    def banks(self) -> dict[str, int]:
        return super().banks | {"binary": self.k_bits}

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        renew_binary(bank, self.streams)


def renew_binary(bank: Codes, streams: tuple[str, ...]) -> None:
    """Set the bank "binary" to the sign of the sum of these streams' banks."""
    bank["binary"].copy_(sign(torch.stack([bank[name] for name in streams]).sum(dim=0)))


def code_pairs(codes: Codes) -> dict[str, tuple[Tensor, Tensor]]:
    """The pairs of codes (b, k) that a batch's objective compares: within the image and the text, and across."""
    image, text = codes["image"], codes["text"]
    return {"image": (image, image), "text": (text, text), "cross": (image, text)}


def other(stream: str) -> str:
    """The other modality: "text" for "image", "image" for "text"."""
    return {"image": "text", "text": "image"}[stream]
