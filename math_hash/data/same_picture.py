"""Several rows of one picture: the tables of caption data sets have a row per text."""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256

from math_hash.data.records import Record


def picture_key(record: Record) -> bytes | str:
    """The same for all rows of a picture: its path, or the digest of its bytes; "" without a picture."""
    if record.content is not None:
        return sha256(record.content).digest()
    return os.path.normpath(record.image.replace("\\", "/")) if record.image else ""


def add_row(record: Record, other: Record) -> None:
    """Add what another row says of the same picture: its texts, labels and columns, as far as they are new."""
    record.texts = list(dict.fromkeys([*record.texts, *other.texts]))
    record.labels = list(dict.fromkeys([*(record.labels or []), *(other.labels or [])])) or record.labels
    record.others = {**other.others, **record.others}


def merge_adjacent(records: Iterable[Record]) -> Iterator[Record]:
    """Make one row of rows of the same picture that follow one another."""
    last: Record | None = None
    for record in records:
        if last and not (last.problem or record.problem) and (key := picture_key(last)) and key == picture_key(record):
            add_row(last, record)
            continue
        if last:
            yield last
        last = record
    if last:
        yield last


def refuse_repeats(records: Iterable[Record]) -> Iterator[Record]:
    """Give a record a problem where its picture came before; takes some 70 bytes of memory per picture."""
    seen: set[int] = set()
    for record in records:
        if not record.problem and (key := picture_key(record)):
            if (number := hash(key)) in seen:
                record.problem = f"{record.image} came before; put the rows of one picture below each other"
            seen.add(number)
        yield record
