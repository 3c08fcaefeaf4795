"""The formats of pictures, by the ending of a file's name, and what reads them."""

from contextlib import suppress

from PIL import Image

PICTURES = {
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif",
}  # fmt: skip

with suppress(ImportError):  # the extra `heif`
    from pillow_heif import register_heif_opener

    register_heif_opener()


def missing_reader(ending: str) -> str:
    """What is missing to read pictures of this ending, such as ".heic"; "" if they can be read, or are no pictures.

    >>> missing_reader(".jpg")
    ''
    """
    if ending not in PICTURES or ending in Image.registered_extensions():
        return ""
    needed = "Pillow 11.3 or newer" if ending == ".avif" else "`pip install 'math_hash[heif]'`"
    return f"{ending} needs {needed}"
