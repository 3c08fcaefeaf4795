"""Thumbnails of the pictures that rows of an index name."""

import io
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

from math_hash.data.images import StoredImage, TarMember, open_image
from math_hash.errors import InputError


def picture_of(root: Path, metadata: Mapping[str, Any]) -> StoredImage | None:
    """Where the picture of a row is stored.

    Args:
        root: folder of the collection's pictures.
        metadata: of the row; "image" is a path below `root`, and "member" the place of a picture inside a tar file.

    Returns:
        None where the row names no picture, or one outside `root`, also through symbolic links.
    """
    name, member = metadata.get("image"), metadata.get("member")
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    try:
        source = TarMember.of(root / name, *member) if member else root / name
        file = source.tar if isinstance(source, TarMember) else source
        is_inside = file.resolve().is_relative_to(root.resolve()) and _is_whole(source)
    except (TypeError, OSError, RuntimeError):  # up to Python 3.12, the last one tells of links in a circle
        return None
    return source if is_inside else None


def _is_whole(source: StoredImage) -> bool:
    """Whether the bytes that a member names are in its tar file."""
    if not isinstance(source, TarMember):
        return True
    return 0 <= source.offset and 0 < source.size and source.offset + source.size <= source.tar.stat().st_size


def thumbnail(root: Path, metadata: Mapping[str, Any], side: int) -> bytes | None:
    """The picture of a row, scaled down.

    Args:
        root, metadata: as `picture_of` takes them.
        side: pixels of the longer side, at most.

    Returns:
        A JPEG file. None where the row has no picture below `root`, or it cannot be read.
    """
    picture = picture_of(root, metadata)
    return None if picture is None else _scaled(picture, side)


def _scaled(picture: StoredImage, side: int) -> bytes | None:
    try:
        image = open_image(picture, side=side)
    except InputError:
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()


class ThumbnailCache:
    """Thumbnails that were asked for last, for as long as their files do not change. Several threads may use it.

    Args:
        max_bytes: of the thumbnails that are kept.
    """

    def __init__(self, max_bytes: int = 1 << 26):
        self.max_bytes, self.size = max_bytes, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def version(self, picture: StoredImage, side: int) -> str | None:
        """Names a thumbnail of a picture as it is now, for `ETag`; None if there is no such file."""
        try:
            facts = (picture.tar if isinstance(picture, TarMember) else Path(picture)).stat()
        except OSError:
            return None
        return blake2b(repr((picture, facts.st_mtime_ns, facts.st_size, side)).encode(), digest_size=16).hexdigest()

    def thumbnail(self, picture: StoredImage, side: int, version: str) -> bytes | None:
        """The thumbnail of this version, a JPEG file; None if the picture cannot be read."""
        with self._lock:
            if version in self._kept:
                self._kept.move_to_end(version)
                return self._kept[version]
        content = _scaled(picture, side)
        with self._lock:
            if content and version not in self._kept:
                self._kept[version] = content
                self.size += len(content)
            while self.size > self.max_bytes:
                self.size -= len(self._kept.popitem(last=False)[1])
        return content
