"""A trained model: an encoder and a hash head that turn images and texts into codes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data.images import ImageTransform
from math_hash.data.needs import Needs
from math_hash.data.pairs import to_device
from math_hash.encoders import Encoder, Features
from math_hash.errors import InputError
from math_hash.files import write_bytes, write_text
from math_hash.methods import Method, find_method
from math_hash.models.code_model import CONFIG, RESULTS, WEIGHTS, CodeModel, Encoded, Modality, Picture
from math_hash.models.fingerprint import kept_fingerprint
from math_hash.models.precision import HALVES
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
        precision: in which it encodes, see `in_precision`.

    Raises:
        InputError: the method is not installed; with `trusted=False`, also if its name would import a module.
    """

    bit_order: Tensor
    gives_vectors = True
    _digest: str = ""  # of the weights before they were rounded

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
            raise InputError(f"`bits` {bits}: this model has {self.head.k_bits} bits; give at least 1 and at most all")
        view = copy(self)
        view.k_bits = bits
        return view

    def in_precision(self, precision: str) -> "HashModel":
        """A copy for encoding in bf16 or fp16, with the same fingerprint; this model if it has that precision.

        Matrices, and filters, of the encoder and of the head's transformer blocks are rounded once to bf16 or fp16, in
        which they are multiplied. Norms, biases and the hash layers stay in float32, as do the codes. What is not
        rounded is shared with this model.

        Args:
            precision: "no" (float32), "bf16" or "fp16", as `choose_precision` returns it.

        Raises:
            InputError: this model is rounded itself, to another precision.
        """
        if precision == self.precision:
            return self
        if self.precision != "no":
            raise InputError(
                f"precision {precision!r}: the weights are rounded to {self.precision}; load the model again"
            )
        blocks = [module for module in self.head.modules() if isinstance(module, ResidualAttentionBlock)]
        kept = (*self.parameters(), *self.buffers(), self.encoder.tokenizer)
        shared: dict[int, Any] = {id(value): value for value in kept}
        for module in (self.encoder, *blocks):
            for weight in module.parameters():
                if weight.ndim > 1:
                    half = weight.detach().to(HALVES[precision])
                    shared[id(weight)] = nn.Parameter(half, requires_grad=False)
        reduced = deepcopy(self, shared)
        reduced.precision, reduced._digest = precision, self._sha256()
        return reduced

    __repr__ = CodeModel.__repr__  # that of PyTorch's modules lists every layer

    def _details(self) -> list[str]:
        weights = sum(weight.numel() for weight in self.parameters())
        return [type(self.encoder).__name__, f"{weights / 1e6:,.1f} M parameters"]

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

    def vector_width(self, modality: str) -> int:
        """See `CodeModel.vector_width`.

        Raises:
            InputError: the method needs more than one vector per item.
        """
        needs = self.head.needs
        if needs.tokens or needs.stages:
            what = "states of tokens" if needs.tokens else "states of four depths"
            raise InputError(
                f"{self.method} needs {what}, so this model cannot hash embeddings; train a method that needs one "
                "vector per item, such as DSPH"
            )
        return self.encoder.stored_widths[("image", "text").index(modality)]

    def hash_vectors(self, vectors: Tensor, modality: str) -> Tensor:
        """See `CodeModel.hash_vectors`. A CLIP's own pooled vectors are never of length 1 throughout."""
        if self.encoder.takes_pictures and ((vectors.norm(dim=1) - 1).abs() < 0.005).all():
            raise InputError(
                "the embeddings are scaled to length 1, but this model was trained on its encoder's vectors as they "
                "are; store them unscaled, or train a model on these embeddings (docs/features.md)"
            )
        return (self.hash_image if modality == "image" else self.hash_text)({"pooled": vectors})

    def hash_with_vectors(self, modality: Modality, inputs: Any) -> tuple[Tensor, Tensor]:
        """See `CodeModel.hash_with_vectors`."""
        codes, features = self._hash(modality, inputs)
        return codes, F.normalize(features.pooled.float(), dim=1)

    def encode_query(self, modality: Modality, item: Picture) -> Encoded:
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
        encoder, head = self.encoder, self.head
        encode = encoder.encode_image if modality == "image" else encoder.encode_text
        features = self._features(encode, inputs, needs or head.needs)
        codes = head.hash_image(features) if modality == "image" else head.hash_text(features)
        return (codes if self.k_bits == head.k_bits else codes[:, self.bit_order[: self.k_bits]]), features

    def _features(self, encode: Callable[[Any, Needs], Features], inputs: Any, needs: Needs) -> Features:
        inputs = to_device(inputs, self.device)
        if self.precision == "no":
            return encode(inputs, needs)
        with torch.autocast(self.device.type, HALVES[self.precision]):
            return encode(inputs, needs).float()

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
            InputError: a file could not be written, or the weights are rounded.
        """
        if self.precision != "no":
            raise InputError(f"{folder}: only weights in float32 are saved; load the model with precision='no'")
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
        """SHA-256 of its configuration and its weights, followed by the number of bits if it keeps only some.

        It does not depend on the precision.
        """
        return kept_fingerprint(self._sha256(), self.k_bits if self.k_bits < self.head.k_bits else None)

    def _sha256(self) -> str:
        if self._digest:
            return self._digest
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a card with its protocol and results; see `math_hash.models.hub`."""
        from math_hash.models import hub

        hub.save_pretrained(self, folder)

    def push_to_hub(self, name: str, private: bool = False, token: str | None = None) -> str:
        """Upload the model and its card as `user/name`. Returns its address; see `math_hash.models.hub`."""
        from math_hash.models import hub

        return hub.push_to_hub(self, name, private, token)
