"""The files of an embedded index, valid ones and what reads a damaged one: it is told apart, or gives right answers."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval import open_index
from math_hash.retrieval.engines.embedded.repair import check, repair

_CODES = np.random.default_rng(0).integers(0, 256, (60, 8), np.uint8)


@cache
def _whole() -> Path:
    """An index of 60 rows, 40 of them in its snapshot, without two that were deleted."""
    folder = Path(tempfile.mkdtemp()) / "index"
    with open_index(f"{folder}?structure=mih", 64, "model") as index:
        for first, last in ((0, 40), (40, 60)):
            rows = range(first, last)
            index.add([f"row {row}" for row in rows], _CODES[first:last], [{"n": row, "even": row % 2} for row in rows])
            if not first:
                index.save()
        index.delete(["row 3", "row 50"])
    return folder


def valid() -> dict[str, bytes]:
    """The database and the files of the snapshot: name -> content."""
    return {path.name: path.read_bytes() for path in sorted(_whole().rglob("*")) if path.is_file()}


def read(path: Path) -> None:
    """Put a file in the place of the valid one of its name, search, and repair what is damaged.

    Raises:
        InputError: the index cannot be opened.
        AssertionError: a row is wrong.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(_whole(), Path(temporary) / "index")
        shutil.copyfile(path, next(folder.rglob(path.name)))
        try:
            _search(folder)
        except InputError:
            assert check(str(folder))
            repair(str(folder))
            _search(folder)


def _search(folder: Path) -> None:
    with open_index(folder, create=False) as index:
        for where in (None, {"even": 1}):
            for neighbors in index.search(_CODES[:3], 100, where):
                numbers = [int(name.split()[1]) for name in neighbors.ids.tolist()]
                assert (_CODES[numbers] == neighbors.codes).all()
                assert len(set(numbers)) == len(numbers)
                assert where is None or all(number % 2 for number in numbers)
        for number, row in enumerate(index.rows([f"row {row}" for row in range(60)])):
            assert row is None or (
                (row[0] == _CODES[number]).all() and row[1] in ({"n": number, "even": number % 2}, {})
            )
