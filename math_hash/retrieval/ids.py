"""Ids of an index's rows: integers below 2^63, or strings, one kind per index."""

import re
from collections import Counter
from collections.abc import Iterable, Set
from typing import Any

import numpy as np

from math_hash.errors import InputError

Id = int | str
IdKind = type[int] | type[str]
KINDS: dict[str, IdKind] = {"int": int, "str": str}
LONGEST_ID = 256  # bytes


def checked_ids(ids: Iterable[Any]) -> list[Id]:
    """Ids as Python's own objects.

    Raises:
        InputError: they are of two kinds or another one, too long or too large, no text, a set, or one occurs twice.
    """
    if isinstance(ids, Set):
        raise InputError("ids: a set, which has no order; expected a list of ids, in the order of their rows")
    plain = as_python(ids)
    kinds = {type(row_id) for row_id in plain}
    if kinds - {int, str} or len(kinds) > 1:
        raise InputError(f"ids: of {', '.join(sorted(kind.__name__ for kind in kinds))}; expected all int, or all str")
    for place, name in enumerate(plain if str in kinds else ()):
        if not name or "\0" in name or not is_text(name) or len(name.encode()) > LONGEST_ID:
            size = f"{len(name.encode())} bytes" if is_text(name) else "not UTF-8"
            raise InputError(
                f"id {name!r} ({size}, at place {place}): expected 1 to {LONGEST_ID} bytes of text without a null "
                "character"
            )
    if int in kinds and not (-(2**63) <= min(plain) and max(plain) < 2**63):
        large = max(plain, key=abs)
        raise InputError(f"id {large}: too large; expected an integer of at most 63 bits")
    if len(set(plain)) != len(plain):
        twice = next(row_id for row_id, count in Counter(plain).items() if count > 1)
        raise InputError(f"id {twice!r} occurs twice; expected each id once")
    return plain


def as_python(ids: Iterable[Any]) -> list[Any]:
    """Ids as Python's own objects.

    Raises:
        InputError: they are one string, whose characters would be taken as ids, or no sequence.

    >>> as_python(["12", "3"])
    ['12', '3']
    """
    if isinstance(ids, np.ndarray):
        ids = ids.tolist()
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InputError(f"ids: {ids!r} alone; expected a list of ids, such as [{ids!r}]")
    return [row_id.item() if isinstance(row_id, np.generic) else row_id for row_id in ids]


def as_id(name: str, kind: IdKind | None) -> Id:
    """The id that a text names in an index whose ids are of this kind.

    >>> as_id("7", int), as_id("7", str)
    (7, '7')
    """
    is_number = kind is int and re.fullmatch("-?[0-9]{1,19}", name) and abs(int(name)) < 2**63
    return int(name) if is_number else name


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: half a character cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
