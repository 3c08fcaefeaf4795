"""The formats of pictures, by the ending of a file's name, and what reads them."""

from contextlib import suppress
from functools import cache

PICTURES = {
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif",
}  # fmt: skip


@cache
def register_readers() -> None:
    """Let Pillow read HEIF too, where the extra `heif` is installed."""
    from PIL import Image  # commands that open no picture do without

    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def missing_reader(ending: str) -> str:
    """What is missing to read pictures of this ending, such as ".heic"; "" if they can be read, or are no pictures.

    >>> missing_reader(".jpg")
    ''
    """
    if ending not in PICTURES:
        return ""
    from PIL import Image

    register_readers()
    if ending in Image.registered_extensions():
        return ""
    needed = "Pillow 11.3 or newer" if ending == ".avif" else "`pip install 'math_hash[heif]'`"
    return f"{ending} needs {needed}"
