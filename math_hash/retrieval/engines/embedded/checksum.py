"""The checksum that each row of an embedded index carries."""

import zlib
from typing import Any

from math_hash.retrieval.ids import Id


def checksum(row_id: Id, code: bytes, text: str | None) -> int:
    """CRC-32 of a row: its id, its packed code, and its metadata as JSON.

    >>> checksum(1, b"ab", None) == checksum(1, b"ab", "{}")
    False
    """
    return zlib.crc32(f"{row_id}\0{text or ''}".encode(), zlib.crc32(code))


def is_intact(row_id: Any, code: Any, text: Any, stored: Any) -> bool:
    """Whether a row that was read is as it was written."""
    try:
        return checksum(row_id, code, text) == stored
    except (TypeError, ValueError):  # a value of another type, or text that cannot be written as UTF-8
        return False
