"""Pictures: from an untrusted file to the encoder's input."""

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform
from tqdm import tqdm

from math_hash.errors import InputError

# what Pillow's decoders raise on files that are not what their name says
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError, Warning)


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture completely: RGB, turned upright as its EXIF orientation says.

    Raises:
        InputError: the file is missing, damaged, not a picture, or larger than Pillow's limit on pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such picture; check --image-root") from error
    except _DECODE_ERRORS as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path}: cannot be decoded ({reason}); replace the file, or use --on-bad-image skip"
        ) from error


@dataclass(frozen=True)
class ImageTransform:
    """What an encoder expects of a picture: the side of its square, and the mean and deviation of each channel."""

    resolution: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image, train: bool = False) -> Tensor:
        """Resize (bicubic), crop and normalise: float32 (3, resolution, resolution).

        As the releases do it: in training the short side becomes `resolution` and the centre is cut out; otherwise
        the whole picture is squeezed into the square.
        """
        side = self.resolution
        image = transform.resize(image, side if train else [side, side], InterpolationMode.BICUBIC)
        pixels = transform.to_tensor(transform.center_crop(image, [side, side]))
        return transform.normalize(pixels, self.mean, self.std)

    def tensor(self, pixels: Tensor) -> Tensor:
        """Resize and normalise a batch of pictures, uint8 (n, 3, h, w): float32 (n, 3, resolution, resolution)."""
        side = self.resolution
        resized = transform.resize(pixels, [side, side], InterpolationMode.BICUBIC, antialias=True)
        return transform.normalize(resized.float() / 255, self.mean, self.std)


def bad_images(paths: Iterable[Path], workers: int = 4, decode: bool = True, progress: bool = False) -> dict[int, str]:
    """Check many pictures and tell which are unusable: position in `paths` -> reason.

    Args:
        decode: decode each one completely; otherwise only see that it is a file that is not empty.
        progress: show a progress bar.
    """
    paths = list(paths)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        reasons = pool.map(partial(_reason_against, decode=decode), paths, chunksize=64)
        bar = tqdm(reasons, total=len(paths), desc="checking pictures", unit="image", disable=not progress)
        return {position: reason for position, reason in enumerate(bar) if reason}


def _reason_against(path: Path, decode: bool) -> str:
    if not decode:
        try:
            return "" if path.stat().st_size else f"{path}: is empty"
        except OSError:
            return f"{path}: no such picture"
    try:
        open_image(path)
    except InputError as error:
        return str(error)
    return ""
