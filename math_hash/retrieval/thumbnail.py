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
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        return None
    try:
        image = open_image(TarMember.of(path, *member) if member else path, side=side)
    except (InputError, TypeError):
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()
