"""The interface of models that turn images and texts into codes, in any format."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from math_hash.data.images import ImageTransform, open_image
from math_hash.errors import InputError
from math_hash.hamming.codes import binarize, pack
from math_hash.models.training_distribution import TrainingDistribution
from math_hash.progress import is_watched

WEIGHTS, CONFIG, RESULTS = "model.safetensors", "config.json", "results.json"  # files of a saved model
Output = Literal["packed", "bits", "continuous", "vector"]
Modality = Literal["image", "text"]
Picture = Image.Image | str | Path | np.ndarray | Tensor  # an array is uint8 (h, w, 3), a tensor uint8 (3, h, w)
_Items = Sequence[Any] | np.ndarray | Tensor
_Model = TypeVar("_Model", bound="CodeModel")
_DELAY = 2  # seconds before a progress bar that nobody asked for is shown


class Encoded(NamedTuple):
    """What a model makes of one picture or text.

    Attributes:
        continuous: its continuous code, float32 (k,).
        vector: the encoder's pooled vector, of length 1, float32 (d,); None if the model's format gives none.
        is_unlike_training: it is unlike the training rows; False if the model does not know these.
    """

    continuous: np.ndarray
    vector: np.ndarray | None = None
    is_unlike_training: bool = False


class CodeModel(ABC):
    """A model that turns images and texts into codes: `HashModel`, or one in another format.

    Attributes:
        k_bits: length of its codes.
        method: name of the method.
        max_words: number of tokens that longer texts are cut to.
        precision: in which it encodes: "no" (float32), "bf16" or "fp16"; "int8" of a quantized ONNX model.
        results: of its evaluation, as in a run's `results.json`; None if they are not known.
        distributions: what pictures and texts it was trained on, by modality; empty if that is not known.
        gives_vectors: whether its format gives the encoder's vectors besides codes.
    """

    k_bits: int
    method: str
    max_words: int
    precision: str = "no"
    results: dict[str, Any] | None = None
    distributions: Mapping[str, TrainingDistribution] = MappingProxyType({})
    gives_vectors: bool = False

    def __repr__(self) -> str:
        precision = "float32" if self.precision == "no" else self.precision
        facts = [self.method, f"{self.k_bits} bits", *self._details(), f"{precision} on {self.device}"]
        return f"{type(self).__name__}({', '.join(facts)})"

    def _details(self) -> list[str]:
        """What else the model says in its repr."""
        return []

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identifies this model; only codes of models with the same fingerprint can be compared."""

    @property
    @abstractmethod
    def image_transform(self) -> ImageTransform:
        """Turns a picture into input for `hash_image`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device on which it computes."""

    @abstractmethod
    def hash_image(self, images: Any) -> Tensor:
        """Continuous codes (b, k) of transformed pictures, float (b, 3, resolution, resolution)."""

    @abstractmethod
    def hash_text(self, texts: Any) -> Tensor:
        """Continuous codes (b, k) of token ids, int64 (b, max_words)."""

    def vector_width(self, modality: str) -> int:
        """Width of the embeddings that `hash_vectors` takes of "image" or "text".

        Raises:
            InputError: the model takes no embeddings.
        """
        raise InputError("a model in this format takes no embeddings; use the one that it was exported from")

    def hash_vectors(self, vectors: Tensor, modality: str) -> Tensor:
        """Continuous codes (b, k) of embeddings of "image" or "text", float32 (b, width), from the model's encoder.

        Raises:
            InputError: the model takes no embeddings, or only such that are not scaled to length 1.
        """
        raise NotImplementedError

    @property
    def thresholds(self) -> dict[str, int | None] | None:
        """Hamming distances, by direction, above which nothing is close; None if they are not known for these bits.

        See `math_hash.evaluation.distance_threshold`; the results name the false-positive rate.
        """
        results = self.results or {}
        return results.get("thresholds") if results.get("k_bits") == self.k_bits else None

    def hash_with_vectors(self, modality: Modality, inputs: Any) -> tuple[Tensor, Tensor]:
        """What `hash_image` or `hash_text` returns, and the encoder's pooled vectors of length 1, float (b, d).

        Raises:
            InputError: this model's format gives codes only.
        """
        raise InputError(
            "this model's format gives codes and no encoder vectors; use the run that it was exported from"
        )

    @property
    def kept_bit_order(self) -> list[int]:
        """Positions in its codes from the most to the least significant bit, if these were ranked."""
        return list(range(self.k_bits))

    @abstractmethod
    def tokenize(self, texts: list[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words), as its text tower reads them."""

    def to(self, device: torch.device | str) -> "CodeModel":
        """Move it to a device, if it can be moved."""
        return self

    def eval(self) -> "CodeModel":
        """Make it ready for encoding."""
        return self

    def with_bits(self: _Model, bits: int) -> _Model:
        """A view of this model that gives codes of its `bits` most significant bits, the most significant one first.

        Raises:
            InputError: the model has fewer bits, or its format has a fixed number of them.
        """
        if bits == self.k_bits:
            return self
        raise InputError(f"`bits` {bits}: this model's format is fixed to {self.k_bits} bits; export it with fewer")

    def encode_image(
        self,
        images: Sequence[Picture] | np.ndarray | Tensor,
        batch_size: int = 64,
        output: Output = "packed",
        progress: bool | None = None,
    ) -> np.ndarray:
        """Codes of images; no texts are needed.

        Args:
            images: PIL images, paths, arrays uint8 (h, w, 3), tensors uint8 (3, h, w), or tensors float32 (3,
                resolution, resolution) that are already resized and normalized; or a batch as one array or tensor.
            output: "packed" uint8 (n, ceil(k / 8)); "bits" bool (n, k); "continuous" float32 (n, k) in (-1, 1);
                "vector" float32 (n, d), the encoder's pooled vectors, of length 1.
            progress: show a progress bar; None: after two seconds, on a terminal or in a notebook.

        Raises:
            InputError: a picture cannot be read, an array or tensor has another shape or dtype, the model takes stored
                features only, `output` is unknown, or the model's format gives no vectors.
        """
        if isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 0) == 3:
            raise InputError("encode_image: expected a list of images, found a single one; write [image]")
        return self._encode("image", images, batch_size, output, progress)

    def encode_text(
        self, texts: Sequence[str], batch_size: int = 64, output: Output = "packed", progress: bool | None = None
    ) -> np.ndarray:
        """Codes of texts; no images are needed. `output` and `progress` are as in `encode_image`.

        Raises:
            InputError: `texts` is a single string, the model takes stored features only, `output` is unknown, or the
                model's format gives no vectors.
        """
        if isinstance(texts, str):
            raise InputError("encode_text: expected a list of strings, found a single one; write [text]")
        return self._encode("text", texts, batch_size, output, progress)

    def encode_query(self, modality: Modality, item: Picture) -> Encoded:
        """Everything that a search uses of one picture or text, from one pass.

        Raises:
            InputError: the picture cannot be read, or the model takes stored features only.
        """
        encode = self.encode_image if modality == "image" else self.encode_text
        return Encoded(encode([item], output="continuous")[0])  # type: ignore[list-item]

    def _ready(self) -> AbstractContextManager[Any]:
        """A context for encoding."""
        return nullcontext()

    def _inputs(self, modality: Modality, items: _Items) -> Tensor:
        """What `hash_image` takes of pictures, or `hash_text` of texts."""
        if modality == "text":
            return self.tokenize(list(items), self.max_words)
        transform = self.image_transform
        if isinstance(items, Tensor):
            return _as_pixels(items, transform)
        return torch.stack([_one_as_pixels(item, transform) for item in items])

    def _hash_batch(self, modality: Modality, inputs: Tensor) -> Tensor:
        return self.hash_image(inputs) if modality == "image" else self.hash_text(inputs)

    def _encode(
        self, modality: Modality, items: _Items, batch_size: int, output: str, progress: bool | None
    ) -> np.ndarray:
        if output not in get_args(Output):
            raise InputError(f"output={output!r} is unknown; choose from {', '.join(get_args(Output))}")

        def encode(chunk: _Items) -> Tensor:
            inputs = self._inputs(modality, chunk)
            if output == "vector":
                return self.hash_with_vectors(modality, inputs)[1]
            return self._hash_batch(modality, inputs)

        shown, delay = (is_watched(), _DELAY) if progress is None else (progress, 0)
        bar = tqdm(total=len(items), desc=f"encoding {modality}s", unit=modality, disable=not shown, delay=delay)
        batches = []
        with self._ready(), torch.inference_mode(), bar:
            for start in range(0, len(items), batch_size):
                chunk = items[start : start + batch_size]
                batches.append(encode(chunk).float().cpu().numpy())
                bar.update(len(chunk))
        values = np.concatenate(batches) if batches else np.empty((0, self.k_bits), np.float32)
        if output in ("continuous", "vector"):
            return values
        bits = binarize(values)
        return bits if output == "bits" else pack(bits)


def _one_as_pixels(picture: Picture, transform: ImageTransform) -> Tensor:
    """Pixels (3, resolution, resolution) of one picture."""
    if isinstance(picture, Tensor):
        return _as_pixels(picture[None], transform)[0]
    if isinstance(picture, str | Path):
        return transform(open_image(picture))
    if isinstance(picture, Image.Image):
        return transform(picture.convert("RGB"))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(f"encode_image: array of {picture.dtype} {picture.shape}; expected uint8 (h, w, 3)")
        return transform(Image.fromarray(picture))
    raise InputError(
        f"encode_image: {type(picture).__name__}; expected PIL images, paths, arrays uint8 (h, w, 3), or tensors"
    )


def _as_pixels(images: Tensor, transform: ImageTransform) -> Tensor:
    if images.ndim == 4 and images.shape[1] == 3:
        if images.dtype == torch.uint8:
            return transform.tensor(images)
        if images.is_floating_point() and images.shape[2:] == (transform.resolution,) * 2:
            return images
    raise InputError(
        f"encode_image: tensor of {images.dtype} {tuple(images.shape)}; expected uint8 (n, 3, h, w), or float "
        f"(n, 3, {transform.resolution}, {transform.resolution}) already normalized"
    )
