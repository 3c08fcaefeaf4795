"""Pictures: from an untrusted file to the encoder's input."""

import io
import os
import stat
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform
from tqdm import tqdm

from math_hash.data.picture_formats import missing_reader, readable_formats
from math_hash.errors import InputError, one_line
from math_hash.files import open_regular

MAX_PIXELS = 89_478_485  # Pillow's own limit; decoding takes at most 16 bytes per pixel, 1.4 GB
_MAX_ASPECT = 200  # of the longer side to the shorter one, which training enlarges to the encoder's resolution


class TooManyPixels(InputError):
    """A picture has more pixels than are decoded."""


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


def open_image(source: ImageFile, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Image.Image:
    """Decode a picture completely, as a viewer shows it: RGB, upright, 8 bits per channel.

    The EXIF orientation is applied, transparent parts become white, greys of more than 8 bits are scaled by their
    range, and of an animation the first frame is decoded. Formats: JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF, and,
    with `pip install 'math_hash[heif]'`, HEIF.

    Args:
        source: a file, a place in a tar file, or the bytes of a picture.
        max_pixels: the largest number of pixels that is decoded.
        side: where a smaller picture is enough, the length of its longer side: a JPEG may then be decoded at half,
            a quarter or an eighth of its size, but no smaller than `side`.

    Raises:
        TooManyPixels: it has more pixels. This is known before any is decoded.
        InputError: the file is missing, no regular file, damaged, not a picture, or more than 200 times as long as
            wide.
    """
    name = "a picture in memory" if isinstance(source, io.BytesIO) else source
    try:
        with _opened(source) as file:
            return _decode(file, max_pixels, side)
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such picture; check `image_root`") from error
    except TooManyPixels as error:
        raise TooManyPixels(f"{name}: {error}") from error
    except Exception as error:  # decoders raise many kinds on files that are not what their name says
        reason = missing_reader(Path(str(name)).suffix.lower()) or _reason(error)
        raise InputError(
            f"{name}: cannot be decoded ({reason}); replace the file, or use `on_bad_image` skip"
        ) from error


def _decode(file: BinaryIO, max_pixels: int, side: int | None) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which changes no pixel, and of a limit that is checked here
        with Image.open(file, formats=readable_formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooManyPixels(f"the picture has {width * height:,} pixels; at most {max_pixels:,} are taken")
            if max(width, height) > _MAX_ASPECT * min(width, height):
                raise InputError(f"{width} x {height} pixels, and at most {_MAX_ASPECT} times as long as wide is taken")
            if side:
                image.draft(None, (side, side))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _as_rgb(image)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # Pillow would cut these greys off at 255
        image = Image.fromarray(_as_bytes(np.asarray(image)))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _as_bytes(greys: np.ndarray) -> np.ndarray:
    """Greys of any type and range (h, w) as uint8: floats up to 1 times 255, else as many low bits left out as needed.

    >>> _as_bytes(np.array([[0, 4095]])).tolist(), _as_bytes(np.array([[0, 0.5, 1]])).tolist()
    ([[0, 255]], [[0, 127, 255]])
    """
    most = greys.max(initial=0, where=np.isfinite(greys))
    is_fraction = greys.dtype.kind == "f" and most <= 1
    scale = 255.0 if is_fraction else 2.0 ** -max(int(most).bit_length() - 8, 0)
    scaled = np.multiply(greys, scale, dtype=np.float32)
    return np.nan_to_num(scaled, copy=False).clip(0, 255, out=scaled).astype(np.uint8)


def image_bytes(source: StoredImage) -> bytes:
    """The file of a picture as it is.

    Raises:
        InputError: it is no regular file.
        OSError: it is missing, or cannot be read.
    """
    with _opened(source) as file:
        return file.read()


def _opened(source: ImageFile) -> BinaryIO:
    """A picture's file; of one in a tar file or in memory, its bytes."""
    if isinstance(source, io.BytesIO):
        return io.BytesIO(source.getvalue())
    if not isinstance(source, TarMember):
        return open_regular(source)
    with open_regular(source.tar) as file:
        file.seek(source.offset)
        return io.BytesIO(file.read(min(source.size, os.fstat(file.fileno()).st_size)))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that is read"
    return one_line(error) or type(error).__name__


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
        if isinstance(source, TarMember):
            return "" if source.size else "is empty", b""
        found = os.stat(source)
    except (OSError, ValueError):
        return "no such picture", b""
    return "is no file" if not stat.S_ISREG(found.st_mode) else "" if found.st_size else "is empty", b""


def _check_content(source: StoredImage) -> tuple[str, bytes]:
    """Why a picture is unusable, or "" and a digest of its bytes."""
    try:
        with _opened(source) as file:
            content = file.read()
        if not content:
            return "is empty", b""
        _decode(io.BytesIO(content), MAX_PIXELS, None)
    except FileNotFoundError:
        return "no such picture", b""
    except Exception as error:  # as in `open_image`
        is_page = isinstance(error, UnidentifiedImageError) and b"<html" in content[:1000].lower()
        return "is a web page, not a picture" if is_page else f"cannot be decoded ({_reason(error)})", b""
    return "", blake2b(content, digest_size=16).digest()
