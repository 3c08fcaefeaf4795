"""Several rows of one picture: the tables of caption data sets have a row per text."""

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby

from math_hash.data.records import Record


def picture_key(record: Record) -> bytes | str:
    """The same for all rows of a picture: its path, or the digest of its bytes; "" without a usable one."""
    if record.content is not None and not record.problem:
        return sha256(record.content).digest()
    return os.path.normpath(record.image.replace("\\", "/")) if record.image and not record.problem else ""


def as_one(rows: Sequence[Record]) -> Record:
    """Rows of one picture as one: the first, with the texts, labels and columns of all."""
    first = rows[0]
    if len(rows) > 1:
        first.texts = list(dict.fromkeys(text for row in rows for text in row.texts))
        first.labels = list(dict.fromkeys(label for row in rows for label in row.labels or [])) or None
        first.others = {name: value for row in reversed(rows) for name, value in row.others.items()}
    return first


def merge_adjacent(records: Iterable[Record]) -> Iterator[Record]:
    """Make one row of rows of the same picture that follow one another."""
    for _, rows in groupby(records, lambda record: picture_key(record) or object()):
        yield as_one(list(rows))


def refuse_repeats(records: Iterable[Record]) -> Iterator[Record]:
    """Give a record a problem where its picture came before; takes some 70 bytes of memory per picture."""
    seen: set[int] = set()
    for record in records:
        if key := picture_key(record):
            if (number := hash(key)) in seen:
                record.problem = f"{record.image} came before; put the rows of one picture below each other"
            seen.add(number)
        yield record
