"""`rejected.tsv`: the rows and pictures that were left out, and why."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from math_hash.files import write_bytes

REJECTED = "rejected.tsv"


def write_rejected(
    path: str | Path, rows: Iterable[Sequence[object]], columns: Sequence[str] = ("which", "reason")
) -> None:
    """Write what was left out as a table separated by tabs, atomically.

    Args:
        path: the file to write, by custom called `rejected.tsv`.
        rows: one sequence of values for each line, in the order of `columns`; blanks, tabs and line breaks inside a
            value become single blanks.
        columns: the heading line; empty for a file without one.

    Raises:
        InputError: the file cannot be written.
    """
    table = [columns, *rows] if columns else rows
    lines = ("\t".join(" ".join(str(value).split()) for value in row) + "\n" for row in table)
    write_bytes(path, "".join(lines).encode(errors="backslashreplace"))  # names of files may be no UTF-8


def first_few(values: Iterable[str], most: int = 3) -> str:
    """The first values as part of a message, and how many more there are.

    >>> first_few(["a", "b", "c", "d", "e"])
    'a; b; c; and 2 more'
    """
    values = list(values)
    return "; ".join(values[:most]) + (f"; and {len(values) - most} more" if len(values) > most else "")
