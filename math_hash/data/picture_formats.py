"""The formats of pictures, by the ending of a file's name, and what reads them."""

from contextlib import suppress
from functools import cache

PICTURES = {
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif",
}  # fmt: skip


# No others: of Pillow's, EPS starts a program that runs the file, and many are seldom used and seldom tested.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "HEIF")


@cache
def readable_formats() -> list[str]:
    """Pillow's names of the formats that are read: those that are allowed and installed."""
    from PIL import Image  # commands that open no picture do without

    Image.init()
    with suppress(ImportError):  # the extra `heif`
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


def missing_reader(ending: str) -> str:
    """What is missing to read pictures of this ending, such as ".heic"; "" if they can be read, or are no pictures.

    >>> missing_reader(".jpg")
    ''
    """
    if ending not in PICTURES:
        return ""
    from PIL import Image

    readable_formats()
    if ending in Image.registered_extensions():
        return ""
    needed = "Pillow 11.3 or newer" if ending == ".avif" else "`pip install 'math_hash[heif]'`"
    return f"{ending} needs {needed}"
