"""A trained model: an encoder and a hash head that turn images and texts into codes."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from math_hash.data.images import ImageTransform, open_image
from math_hash.data.pairs import to_device
from math_hash.encoders import ClipEncoder, PrecomputedEncoder
from math_hash.errors import InputError
from math_hash.files import read_json, write_bytes, write_text
from math_hash.hamming.codes import binarize, pack
from math_hash.methods import METHODS, Method

WEIGHTS, CONFIG, RESULTS = "model.safetensors", "config.json", "results.json"


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a model from its weights. Saved as `config.json` beside `model.safetensors`.

    encoder: {"kind": "clip", "architecture", "mean", "std"}, or {"kind": "precomputed", "image_width", "text_width",
    "stage_widths"}.
    """

    method: str
    k_bits: int
    method_options: dict[str, Any]
    encoder: dict[str, Any]
    max_words: int
    format: int = 1


class CodeModel(ABC):
    """Whatever turns images and texts into codes: `HashModel`, or a model in another format.

    Attributes:
        k_bits: length of the codes that it gives.
        method: name of the method.
        max_words: tokens that a text is cut to.
        results: what its evaluation found, as in a run's `results.json`; None where that is not known.
    """

    k_bits: int
    method: str
    max_words: int
    results: dict[str, Any] | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What names this model and no other one; its codes compare with each other only."""

    @property
    @abstractmethod
    def image_transform(self) -> ImageTransform:
        """How a picture becomes input of `hash_image`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @abstractmethod
    def hash_image(self, images: Any) -> Tensor:
        """Continuous codes (b, k) of transformed pictures, float (b, 3, resolution, resolution)."""

    @abstractmethod
    def hash_text(self, texts: Any) -> Tensor:
        """Continuous codes (b, k) of token ids, int64 (b, max_words)."""

    @property
    def kept_bit_order(self) -> list[int]:
        """Places in its codes from the most to the least significant bit, as far as these were ranked."""
        return list(range(self.k_bits))

    def tokenize(self, texts: list[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words), as CLIP's text tower reads them."""
        return ClipEncoder.tokenize(texts, max_words)

    def to(self, device: torch.device | str) -> "CodeModel":
        """Move it to a device, where it can be moved."""
        return self

    def eval(self) -> "CodeModel":
        """Make it ready for encoding."""
        return self

    def encode_image(
        self,
        images: Sequence[Image.Image | str | Path] | Tensor,
        batch_size: int = 64,
        output: str = "packed",
    ) -> np.ndarray:
        """Codes of images, which need no texts beside them.

        Args:
            images: PIL images, paths, or a tensor: uint8 (n, 3, h, w), or float32 (n, 3, resolution, resolution)
                that is already resized and normalised.
            output: "packed" uint8 (n, ceil(k / 8)); "bits" bool (n, k); "continuous" float32 (n, k) in (-1, 1).

        Raises:
            InputError: a picture cannot be read, the tensor is of another form, the model takes stored features only,
                or `output` is unknown.
        """
        transform = self.image_transform

        def pixels(chunk) -> Tensor:
            if isinstance(chunk, Tensor):
                return _as_pixels(chunk, transform)
            opened = (image if isinstance(image, Image.Image) else open_image(image) for image in chunk)
            return torch.stack([transform(image.convert("RGB")) for image in opened])

        if isinstance(images, str | Path | Image.Image):
            raise InputError("encode_image: expected a list of images, found a single one; write [image]")
        return self._encode(images, batch_size, output, lambda chunk: self.hash_image(pixels(chunk)))

    def encode_text(self, texts: Sequence[str], batch_size: int = 64, output: str = "packed") -> np.ndarray:
        """Codes of texts, which need no images beside them. `output` as in `encode_image`.

        Raises:
            InputError: `texts` is a single string, the model takes stored features only, or `output` is unknown.
        """
        tokenize = self.tokenize
        if isinstance(texts, str):
            raise InputError("encode_text: expected a list of strings, found a single one; write [text]")
        return self._encode(
            texts, batch_size, output, lambda chunk: self.hash_text(tokenize(list(chunk), self.max_words))
        )

    def _encode(self, items, batch_size: int, output: str, hash_batch) -> np.ndarray:
        if output not in ("packed", "bits", "continuous"):
            raise InputError(f"output={output!r} is unknown; choose packed, bits or continuous")
        was_training = getattr(self, "training", False)
        self.eval()
        try:
            with torch.inference_mode():
                batches = [hash_batch(chunk).float().cpu().numpy() for chunk in _chunks(items, batch_size)]
        finally:
            if was_training:
                self.train()
        continuous = np.concatenate(batches) if batches else np.empty((0, self.k_bits), np.float32)
        if output == "continuous":
            return continuous
        bits = binarize(continuous)
        return bits if output == "bits" else pack(bits)


class HashModel(nn.Module, CodeModel):
    """An encoder and a method's head.

    Attributes:
        k_bits: length of the codes that it gives.
        bit_order: int64 (k,), the bits from the most to the least significant one.
        method: name of the method.
        max_words: tokens that a text is cut to.
    """

    def __init__(
        self,
        encoder: ClipEncoder | PrecomputedEncoder,
        method: str,
        k_bits: int,
        method_options: dict[str, Any],
        max_words: int,
    ):
        super().__init__()
        self.encoder = encoder
        self.head: Method = METHODS[method](encoder.width, k_bits, **method_options)
        self.register_buffer("bit_order", torch.arange(k_bits))  # the most significant bit first
        self.method, self.k_bits, self.max_words = method, k_bits, max_words
        self.method_options = dict(method_options)

    def keep_bits(self, bits: int) -> "HashModel":
        """Give codes of the `bits` most significant bits from now on, the most significant one first.

        Raises:
            InputError: the model has fewer bits.
        """
        if not 1 <= bits <= self.head.k_bits:
            raise InputError(f"--bits {bits}: this model has {self.head.k_bits} bits; choose from 1 to that")
        self.k_bits = bits
        return self

    def hash_image(self, images: Any) -> Tensor:
        """Continuous codes (b, k) of a batch as the encoder takes it."""
        return self._kept(
            self.head.hash_image(self.encoder.encode_image(to_device(images, self.device), self.head.needs))
        )

    def hash_text(self, texts: Any) -> Tensor:
        """Continuous codes (b, k) of a batch as the encoder takes it."""
        return self._kept(self.head.hash_text(self.encoder.encode_text(to_device(texts, self.device), self.head.needs)))

    def _kept(self, codes: Tensor) -> Tensor:
        return codes if self.k_bits == self.head.k_bits else codes[:, self.bit_order[: self.k_bits]]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.bit_order.device

    @property
    def config(self) -> ModelConfig:
        """What rebuilds this model."""
        if isinstance(self.encoder, ClipEncoder):
            architecture = self.encoder.architecture
            encoder = {
                "kind": "clip",
                "architecture": architecture,
                "mean": list(self.encoder.mean),
                "std": list(self.encoder.std),
            }
        else:
            encoder = {
                "kind": "precomputed",
                "image_width": self.encoder.image_width,
                "text_width": self.encoder.text_width,
                "stage_widths": self.encoder.stage_widths,
            }
        return ModelConfig(self.method, self.head.k_bits, self.method_options, encoder, self.max_words)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically.

        Raises:
            InputError: a file could not be written.
        """
        folder = Path(folder)
        write_text(folder / CONFIG, json.dumps(asdict(self.config), indent=2) + "\n")
        if self.results:
            write_text(folder / RESULTS, json.dumps(self.results, indent=2) + "\n")
        write_bytes(folder / WEIGHTS, save({name: value.contiguous() for name, value in self.state_dict().items()}))

    @property
    def image_transform(self) -> ImageTransform:
        """See `CodeModel.image_transform`.

        Raises:
            InputError: the model takes stored features and no pictures.
        """
        return self._clip.image_transform

    def tokenize(self, texts: list[str], max_words: int) -> Tensor:
        """See `CodeModel.tokenize`.

        Raises:
            InputError: the model takes stored features and no texts.
        """
        return self._clip.tokenize(texts, max_words)

    @property
    def _clip(self) -> ClipEncoder:
        if not isinstance(self.encoder, ClipEncoder):
            raise InputError("this model was trained on stored features and has no encoder for pictures or texts")
        return self.encoder

    @property
    def kept_bit_order(self) -> list[int]:
        """See `CodeModel.kept_bit_order`."""
        return self.bit_order.tolist() if self.k_bits == self.head.k_bits else super().kept_bit_order

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its configuration and its weights; where it keeps some bits only, their number follows."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return kept_fingerprint(digest.hexdigest(), self.k_bits if self.k_bits < self.head.k_bits else None)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a card that holds its protocol and results; see `math_hash.models.hub`."""
        from math_hash.models import hub

        hub.save_pretrained(self, folder)

    def push_to_hub(self, name: str, private: bool = False, token: str | None = None) -> str:
        """Upload the model and its card as `user/name`. Returns its address; see `math_hash.models.hub`."""
        from math_hash.models import hub

        return hub.push_to_hub(self, name, private, token)


def read_saved(folder: str | Path) -> HashModel:
    """Read what `HashModel.save` wrote, on the CPU, in evaluation mode.

    Raises:
        InputError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / CONFIG).read_text())
        config = ModelConfig(**content)
        encoder = dict(config.encoder)
        build = {"clip": ClipEncoder, "precomputed": PrecomputedEncoder}[encoder.pop("kind")]
        model = HashModel(build(**encoder), config.method, config.k_bits, config.method_options, config.max_words)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: has no {CONFIG}; expected a run folder, a saved folder or a released .pth"
        ) from error
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{folder / CONFIG}: damaged or of another version ({error}); train or save it again"
        ) from error
    try:
        model.load_state_dict({"bit_order": model.bit_order, **load_file(folder / WEIGHTS)})
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder / WEIGHTS}: missing, damaged or of another model ({reason})") from error
    if (folder / RESULTS).is_file():
        model.results = read_json(folder / RESULTS)
    return model.eval()


def kept_fingerprint(fingerprint: str, bits: int | None) -> str:
    """The fingerprint of a model that keeps its `bits` most significant bits; None: all of them."""
    return fingerprint if bits is None else f"{fingerprint.partition(':')[0]}:{bits}"


def _as_pixels(images: Tensor, transform) -> Tensor:
    if images.ndim == 4 and images.shape[1] == 3:
        if images.dtype == torch.uint8:
            return transform.tensor(images)
        if images.is_floating_point() and images.shape[2:] == (transform.resolution,) * 2:
            return images
    raise InputError(
        f"encode_image: tensor of {images.dtype} {tuple(images.shape)}; expected uint8 (n, 3, h, w), or float "
        f"(n, 3, {transform.resolution}, {transform.resolution}) already normalised"
    )


def _chunks(items: Sequence | Tensor, size: int) -> Iterator:
    return (items[start : start + size] for start in range(0, len(items), size))
