"""Pictures: from an untrusted file to the encoder's input."""

import io
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform
from tqdm import tqdm

from math_hash.data.picture_formats import missing_reader
from math_hash.errors import InputError

# what Pillow's decoders raise on files that are not what their name says
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError, Warning)


class TarMember(NamedTuple):
    """A picture inside a tar file: its name there, its first byte in the tar file, and its number of bytes."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"

    @classmethod
    def of(cls, path: str | Path, offset: int, size: int) -> "TarMember":
        """From a path of the form `some.tar/name inside`.

        >>> TarMember.of("shards/a.tar/x/1.jpg", 512, 90).name
        'x/1.jpg'
        """
        tar, _, name = str(path).partition(".tar/")
        return cls(Path(f"{tar}.tar"), name, offset, size)


StoredImage = str | Path | TarMember
ImageFile = StoredImage | io.BytesIO


def open_image(source: ImageFile, side: int | None = None) -> Image.Image:
    """Decode a picture completely, as a viewer shows it: RGB, upright, 8 bits per channel.

    The EXIF orientation is applied, transparent parts become white, 16-bit greys are scaled down, and of an animation
    the first frame is decoded.

    Args:
        side: decode a JPEG at a half, a quarter or an eighth of its size where both sides keep as many pixels, several
            times as fast; None: at its size.

    Raises:
        InputError: the file is missing, damaged, not a picture, or larger than Pillow's limit on pixels.
    """
    name = "a picture in memory" if isinstance(source, io.BytesIO) else source
    try:
        return _decode(io.BytesIO(image_bytes(source)) if isinstance(source, TarMember) else source, side)
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such picture; check `image_root`") from error
    except _DECODE_ERRORS as error:
        reason = missing_reader(Path(str(name)).suffix.lower()) or _first_line(error)
        raise InputError(
            f"{name}: cannot be decoded ({reason}); replace the file, or use `on_bad_image` skip"
        ) from error


def _decode(file: str | Path | io.BytesIO, side: int | None = None) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which changes no pixel
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as opened:
            if side is not None:
                opened.draft(None, (side, side))
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # Pillow would cut 16-bit greys off at 255
                greys = np.asarray(image).astype(np.int64)
                greys = greys >> 8 if greys.max() > 255 else greys
                image = Image.fromarray(greys.clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")


def image_bytes(source: StoredImage) -> bytes:
    """The file of a picture as it is.

    Raises:
        OSError: it is missing, or cannot be read.
    """
    if not isinstance(source, TarMember):
        return Path(source).read_bytes()
    with open(source.tar, "rb") as file:
        file.seek(source.offset)
        return file.read(source.size)


def _first_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow knows"
    return (str(error) or type(error).__name__).split("\n")[0]


@dataclass(frozen=True)
class ImageTransform:
    """What an encoder expects of a picture.

    Attributes:
        resolution: side of the square, in pixels.
        mean, std: mean and standard deviation of each channel, of values in [0, 1].
        interpolation: "bicubic" or "bilinear".
        resize_mode: what happens to a picture that is no square, in training: with "shortest" its short side becomes
            `resolution` and the centre is cut out; with "squash" the whole picture is squeezed into the square, as it
            always is in evaluation.

    Raises:
        InputError: another interpolation or mode.
    """

    resolution: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    def __post_init__(self) -> None:
        if self.interpolation not in ("bicubic", "bilinear") or self.resize_mode not in ("shortest", "squash"):
            raise InputError(
                f"pictures cannot be resized by {self.interpolation!r}, {self.resize_mode!r}; expected bicubic or "
                "bilinear, and shortest or squash"
            )

    @property
    def resizing(self) -> tuple[str, ...]:
        """How it differs from the default, for the names of caches."""
        chosen = (self.interpolation, self.resize_mode)
        return () if chosen == ("bicubic", "shortest") else chosen

    def __call__(self, image: Image.Image, train: bool = False) -> Tensor:
        """Resize, crop and normalise: float32 (3, resolution, resolution)."""
        return self.normalized(self.pixels(image, train))

    def pixels(self, image: Image.Image, train: bool = False) -> Tensor:
        """Resize and crop only: uint8 (3, resolution, resolution)."""
        side = self.resolution
        keeps_ratio = train and self.resize_mode == "shortest"
        image = transform.resize(image, side if keeps_ratio else [side, side], InterpolationMode(self.interpolation))
        return transform.pil_to_tensor(transform.center_crop(image, [side, side]))

    def normalized(self, pixels: Tensor) -> Tensor:
        """Normalise resized pictures, uint8 (..., 3, resolution, resolution): float32."""
        return transform.normalize(pixels.float().div(255), self.mean, self.std)

    def tensor(self, pixels: Tensor) -> Tensor:
        """Resize and normalise a batch of pictures, uint8 (n, 3, h, w): float32 (n, 3, resolution, resolution)."""
        side = self.resolution
        resized = transform.resize(pixels, [side, side], InterpolationMode(self.interpolation), antialias=True)
        return self.normalized(resized)


@dataclass(frozen=True)
class Inspection:
    """The result of checking many pictures.

    Attributes:
        bad: position of an unusable picture -> why it is unusable.
        duplicates: position of a picture -> position of an earlier one with equal bytes.
    """

    bad: dict[int, str]
    duplicates: dict[int, int]


def inspect_images(
    sources: Iterable[StoredImage], workers: int = 4, decode: bool = True, progress: bool = False
) -> Inspection:
    """Check many pictures, several at a time.

    Args:
        sources: paths, or places in tar files.
        workers: number of threads.
        decode: decode each one completely, and compare contents; otherwise only check that each file is there and not
            empty.
        progress: show a progress bar.
    """
    sources = list(sources)
    bad: dict[int, str] = {}
    duplicates: dict[int, int] = {}
    first: dict[bytes, int] = {}
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        checks = pool.map(_check_content if decode else _check_presence, sources, chunksize=64)
        bar = tqdm(checks, total=len(sources), desc="checking pictures", unit="image", disable=not progress)
        for position, (reason, digest) in enumerate(bar):
            if reason:
                bad[position] = f"{sources[position]}: {reason}"
            elif first.setdefault(digest, position) != position and digest:
                duplicates[position] = first[digest]
    return Inspection(bad, duplicates)


def _check_presence(source: StoredImage) -> tuple[str, bytes]:
    """Why a picture is unusable, or "", without a look inside; and no digest."""
    try:
        size = source.size if isinstance(source, TarMember) else Path(source).stat().st_size
    except OSError:
        return "no such picture", b""
    return ("" if size else "is empty"), b""


def _check_content(source: StoredImage) -> tuple[str, bytes]:
    """Why a picture is unusable, or "" and a digest of its bytes."""
    try:
        content = image_bytes(source)
    except OSError as error:
        return "no such picture" if isinstance(error, FileNotFoundError) else _first_line(error), b""
    if not content:
        return "is empty", b""
    try:
        _decode(io.BytesIO(content))
    except _DECODE_ERRORS as error:
        page = content.lstrip()[:1] == b"<" and b"<html" in content[:1000].lower()
        return "is a web page, not a picture" if page else f"cannot be decoded ({_first_line(error)})", b""
    return "", blake2b(content, digest_size=16).digest()
