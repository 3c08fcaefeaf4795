"""Thumbnails of the pictures that rows of an index name."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from math_hash.data.images import TarMember, open_image
from math_hash.errors import InputError


def thumbnail(root: Path, metadata: Mapping[str, Any], side: int) -> bytes | None:
    """The picture of a row, scaled down.

    Args:
        root: folder of the collection's pictures.
        metadata: of the row; "image" is a path below `root`, and "member" the place of a picture inside a tar file.
        side: pixels of the longer side, at most.

    Returns:
        A JPEG file. None where the row has no picture, it cannot be read, or it lies outside `root`, also through
        symbolic links.
    """
    name, member = metadata.get("image"), metadata.get("member")
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    try:
        source = TarMember.of(root / name, *member) if member else root / name
        file = source.tar if isinstance(source, TarMember) else source
        if not file.resolve().is_relative_to(root.resolve()) or not _is_within(source):
            return None
        image = open_image(source)
    except (InputError, TypeError, OSError):
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()


def _is_within(source: Path | TarMember) -> bool:
    """Whether the bytes that a member names are in its tar file."""
    if not isinstance(source, TarMember):
        return True
    return 0 <= source.offset and 0 < source.size and source.offset + source.size <= source.tar.stat().st_size
