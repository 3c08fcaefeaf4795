"""A trained model: an encoder and a hash head that turn images and texts into codes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data.images import ImageTransform
from math_hash.data.needs import Needs
from math_hash.data.pairs import to_device
from math_hash.encoders import Encoder
from math_hash.encoders.features import Features
from math_hash.errors import InputError
from math_hash.files import write_bytes, write_text
from math_hash.methods import Method, find_method
from math_hash.models.code_model import CONFIG, RESULTS, WEIGHTS, CodeModel, Encoded, Modality, kept_fingerprint
from math_hash.models.training_distribution import compared_vectors, write_distributions


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed, besides its weights, to rebuild a model. Saved as `config.json` next to `model.safetensors`.

    encoder: what `build_encoder` takes, such as {"kind": "clip", "architecture", "mean", "std"}.
    """

    method: str
    k_bits: int
    method_options: dict[str, Any]
    encoder: dict[str, Any]
    max_words: int
    format: int = 1


class HashModel(nn.Module, CodeModel):
    """An encoder and a method's head.

    Attributes:
        k_bits: length of its codes.
        bit_order: int64 (k,), the bits from the most to the least significant one.
        method: name of the method, as `find_method` takes it.
        method_options: all keywords of its constructor.
        max_words: number of tokens that longer texts are cut to.

    Raises:
        InputError: the method is not installed; with `trusted=False`, also if its name would import a module.
    """

    bit_order: Tensor
    gives_vectors = True

    def __init__(
        self,
        encoder: Encoder,
        method: str,
        k_bits: int,
        method_options: dict[str, Any],
        max_words: int,
        *,
        trusted: bool = True,
    ):
        super().__init__()
        head_class = find_method(method, trusted=trusted)
        self.encoder = encoder
        self.head: Method = head_class(encoder.width, k_bits, **method_options)
        self.register_buffer("bit_order", torch.arange(k_bits))  # the most significant bit first
        self.method, self.k_bits, self.max_words = method, k_bits, max_words
        self.method_options = dict(method_options)

    def with_bits(self, bits: int) -> "HashModel":
        """A view of this model, sharing its weights, that gives codes of its `bits` most significant bits.

        Raises:
            InputError: the model has fewer bits.
        """
        if not 1 <= bits <= self.head.k_bits:
            raise InputError(f"--bits {bits}: this model has {self.head.k_bits} bits; give at least 1 and at most all")
        view = copy(self)
        view.k_bits = bits
        return view

    @contextmanager
    def _ready(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def hash_image(self, images: Any) -> Tensor:
        """Continuous codes (b, k) of a batch as the encoder takes it."""
        return self._hash("image", images)[0]

    def hash_text(self, texts: Any) -> Tensor:
        """Continuous codes (b, k) of a batch as the encoder takes it."""
        return self._hash("text", texts)[0]

    def hash_with_vectors(self, modality: Modality, inputs: Any) -> tuple[Tensor, Tensor]:
        """See `CodeModel.hash_with_vectors`."""
        codes, features = self._hash(modality, inputs)
        return codes, F.normalize(features.pooled.float(), dim=1)

    def encode_query(self, modality: Modality, item: Image.Image | str | Path) -> Encoded:
        """See `CodeModel.encode_query`."""
        distribution, needs = self.distributions.get(modality), self.head.needs
        if distribution is not None and self.encoder.stage_widths is not None:
            needs = replace(needs, stages=True)
        with self._ready(), torch.inference_mode():
            codes, features = self._hash(modality, self._inputs(modality, [item]), needs)
            vector = F.normalize(features.pooled.float(), dim=1)
            unlike = distribution is not None and distribution.is_unlike(compared_vectors(features).cpu().numpy())[0]
        return Encoded(codes[0].float().cpu().numpy(), vector[0].cpu().numpy(), bool(unlike))

    def _hash(self, modality: Modality, inputs: Any, needs: Needs | None = None) -> tuple[Tensor, Features]:
        encoder, head, inputs, needs = self.encoder, self.head, to_device(inputs, self.device), needs or self.head.needs
        if modality == "image":
            features = encoder.encode_image(inputs, needs)
            codes = head.hash_image(features)
        else:
            features = encoder.encode_text(inputs, needs)
            codes = head.hash_text(features)
        return (codes if self.k_bits == head.k_bits else codes[:, self.bit_order[: self.k_bits]]), features

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.bit_order.device

    @property
    def config(self) -> ModelConfig:
        """The configuration that rebuilds this model."""
        return ModelConfig(self.method, self.head.k_bits, self.method_options, self.encoder.spec, self.max_words)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors`, `config.json` and what else is known, each file atomically.

        Raises:
            InputError: a file could not be written.
        """
        folder = Path(folder)
        write_text(folder / CONFIG, json.dumps(asdict(self.config), indent=2) + "\n")
        if self.results:
            write_text(folder / RESULTS, json.dumps(self.results, indent=2) + "\n")
        if self.distributions:
            write_distributions(folder, self.distributions)
        write_bytes(folder / WEIGHTS, save({name: value.contiguous() for name, value in self.state_dict().items()}))

    @property
    def image_transform(self) -> ImageTransform:
        """See `CodeModel.image_transform`.

        Raises:
            InputError: the model takes stored features and no pictures.
        """
        return self.encoder.image_transform

    def tokenize(self, texts: list[str], max_words: int) -> Tensor:
        """See `CodeModel.tokenize`.

        Raises:
            InputError: the model takes stored features and no texts.
        """
        return self.encoder.tokenize(texts, max_words)

    @property
    def kept_bit_order(self) -> list[int]:
        """See `CodeModel.kept_bit_order`."""
        return self.bit_order.tolist() if self.k_bits == self.head.k_bits else super().kept_bit_order

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its configuration and its weights, followed by the number of bits if it keeps only some."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return kept_fingerprint(digest.hexdigest(), self.k_bits if self.k_bits < self.head.k_bits else None)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a card with its protocol and results; see `math_hash.models.hub`."""
        from math_hash.models import hub

        hub.save_pretrained(self, folder)

    def push_to_hub(self, name: str, private: bool = False, token: str | None = None) -> str:
        """Upload the model and its card as `user/name`. Returns its address; see `math_hash.models.hub`."""
        from math_hash.models import hub

        return hub.push_to_hub(self, name, private, token)
