"""Metadata of a row: one JSON object, of bounded size and depth."""

import json
from collections.abc import Mapping
from typing import Any

from math_hash.data.records import LARGEST_METADATA
from math_hash.errors import InputError
from math_hash.retrieval.ids import Id, is_text

DEEPEST = 32  # lists and objects inside each other
_MOST_EXACT = 2**53 - 1  # the largest integer that JavaScript reads exactly


def as_json(row_id: Id, metadata: Mapping[str, Any] | None) -> str | None:
    """Metadata as JSON; None for no metadata.

    Raises:
        InputError: it is no JSON object, too deep or too large, or holds half a character.

    >>> as_json("a", {"label": ["dog"], "year": 2015})
    '{"label": ["dog"], "year": 2015}'
    """
    if not metadata:
        return None
    if not _is_within(metadata, DEEPEST):
        raise InputError(f"metadata of id {row_id!r}: nested too deeply; expected at most {DEEPEST} levels")
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata of id {row_id!r}: {error}; expected a JSON object") from error
    if not is_text(text):
        raise InputError(f"metadata of id {row_id!r}: holds half a character; expected text")
    if len(text) > LARGEST_METADATA or len(text.encode()) > LARGEST_METADATA:
        raise InputError(
            f"metadata of id {row_id!r}: {len(text)} characters; expected at most {LARGEST_METADATA} bytes as JSON"
        )
    return text


def _is_within(value: Any, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return levels > 0 and all(_is_within(member, levels - 1) for member in value)


def for_javascript(value: Any) -> Any:
    """The same JSON value, with integers that JavaScript would round as strings.

    >>> for_javascript({"a": [2**53, 7]})
    {'a': ['9007199254740992', 7]}
    """
    if isinstance(value, dict):
        return {name: for_javascript(member) for name, member in value.items()}
    if isinstance(value, list):
        return [for_javascript(member) for member in value]
    return str(value) if isinstance(value, int) and abs(value) > _MOST_EXACT else value
