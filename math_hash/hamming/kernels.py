"""Population counts and Hamming distances over packed codes, compiled.

Layout: queries uint64 (q, words), one row per query; the database transposed, uint64 (words, n), so that the compiler
turns the loop over rows into vector instructions.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache

_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_ONES, _1, _2, _4, _56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


class _Cache(FunctionCache):
    """numba's cache on the disk, whose keys also name what the kernels that a kernel calls, and inlines, look like.

    numba itself compares the time stamp of the kernel's own file only, and would go on with what other files once said.
    """

    def _index_key(self, signature: Any, code_generator: Any) -> tuple:
        own = Path(self._py_func.__code__.co_filename).parent
        return (*super()._index_key(signature, code_generator), _sum_of_kernels(own), _sum_of_kernels(_HERE))


_HERE = Path(__file__).parent


@cache
def _sum_of_kernels(folder: Path) -> str:
    """SHA-256 of the files of a folder that define kernels."""
    contents = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"".join(content for content in contents if b"compiled" in content)).hexdigest()


def compiled(function: Callable) -> Callable:
    """Compile a function when it is first called; the result is kept on the disk. It runs without Python's lock."""
    kernel: Any = numba.njit(nogil=True)(function)
    kernel._cache = _Cache(function)
    return kernel


@numba.njit(inline="always")
def popcount(word: np.uint64) -> np.uint64:  # pragma: no cover - compiled
    """Bits set in a uint64: sums of pairs, nibbles and bytes, which LLVM recognises and turns into one instruction.

    Example:
        >>> int(popcount(np.uint64(0b1011)))
        3
    """
    word = word - ((word >> _1) & _M1)
    word = (word & _M2) + ((word >> _2) & _M2)
    word = (word + (word >> _4)) & _M4
    return (word * _ONES) >> _56


@compiled
def fill_distances(
    query: np.ndarray, database: np.ndarray, distances: np.ndarray, start: int = 0
) -> None:  # pragma: no cover - compiled
    """Hamming distances of one query, uint64 (words,), to the rows of a database, uint64 (words, n), from `start` on.

    They are written into uint16 (m,), m <= n - start. One-dimensional slices keep the loops free of strides.

    Example:
        >>> distances = np.empty(3, np.uint16)
        >>> fill_distances(np.array([0b11], np.uint64), np.array([[0b11, 0b10, 0b100]], np.uint64), distances)
        >>> distances.tolist()
        [0, 1, 3]
    """
    rows = database[0][start : start + len(distances)]
    for row in range(len(distances)):
        distances[row] = np.uint16(popcount(query[0] ^ rows[row]))
    for word in range(1, database.shape[0]):
        rows = database[word][start : start + len(distances)]
        for row in range(len(distances)):
            distances[row] += np.uint16(popcount(query[word] ^ rows[row]))
