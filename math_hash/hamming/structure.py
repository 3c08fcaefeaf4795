"""Sublinear exact structures over packed codes: what they have in common, and how they collect the nearest rows.

A row that may be an answer is a *key*, its distance and its number in one int64, so that the order of keys is that of
the answer: by distance, then by row. Keys may come in any order.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from math_hash.hamming import scan
from math_hash.hamming.codes import as_words
from math_hash.hamming.kernels import compiled
from math_hash.hamming.threads import in_parts, most_threads

_FEWEST_STEPS = 16  # before a query is given up
_SHIFT, _ROW = 32, 2**32 - 1  # of a key: where the distance starts; the row's bits
_QUERIES_PER_THREAD = 32  # below, starting threads takes longer than it saves


class Structure(ABC):
    """An exact index over the rows of `database`: the answers of `scan.nearest` and `scan.within`, order included.

    A query that turns out to be slow here is given up and scanned, so that it takes little longer than a scan alone.

    Attributes:
        name: as a URI's option `structure` writes it.
        database: uint64 (words, n), n < 2^32, from `codes.as_planes`.
        k_bits: length of the codes.
        arrays: all that has to be stored for `choice.read`, by name.
        rows_per_step: that a scan passes while this structure takes a step: looks up a bucket or verifies a row.
        budget: steps after which a query is given up: a quarter of the time of a scan.
    """

    name: ClassVar[str]
    rows_per_step: ClassVar[int]

    def __init__(self, database: np.ndarray, k_bits: int, arrays: Mapping[str, np.ndarray]):
        self.database, self.k_bits = _fixed(database), k_bits
        self.arrays = {name: _fixed(array) for name, array in arrays.items()}
        self.budget = max(_FEWEST_STEPS, database.shape[1] // (4 * self.rows_per_step))

    def nearest(self, queries: np.ndarray, top_k: int, dead: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query, packed uint8 (q, bytes): the answer of `scan.nearest`."""
        top_k = min(top_k, self.database.shape[1])
        rows, distances = np.empty((len(queries), top_k), np.int64), np.empty((len(queries), top_k), np.uint16)
        given_up = (self._steps(queries, top_k, dead, rows, distances) > self.budget).nonzero()[0]
        if len(given_up):
            rest = scan.nearest(queries[given_up], self.database, self.k_bits, top_k, dead)
            rows[given_up], distances[given_up] = rest
        return rows, distances

    def within(self, query: np.ndarray, radius: int, dead: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """All rows at distance <= radius of one packed query, uint8 (bytes,): the answer of `scan.within`."""
        words, radius = as_words(query[None]).copy()[0], min(radius, self.k_bits)
        keys, steps = self._search(words, self.database.shape[1], radius, _mask(dead))
        if steps > self.budget:
            return scan.within(query, self.database, radius, dead)
        return keys & _ROW, (keys >> _SHIFT).astype(np.uint16)

    def cost(self, queries: np.ndarray, top_k: int) -> float:
        """Mean time of a query, in rows that a scan passes in it. A scan's is n."""
        top_k = min(top_k, self.database.shape[1])
        out = np.empty((len(queries), top_k), np.int64), np.empty((len(queries), top_k), np.uint16)
        steps = self._steps(queries, top_k, None, *out)
        scanned = (steps > self.budget) * self.database.shape[1]
        return float(np.mean(self.rows_per_step * np.minimum(steps, self.budget) + scanned))

    def _steps(
        self, queries: np.ndarray, top_k: int, dead: np.ndarray | None, rows: np.ndarray, distances: np.ndarray
    ) -> np.ndarray:
        """Search, write into rows and distances (q, top_k), and count the steps of each query, int64 (q,)."""
        words, mask, steps = as_words(queries).copy(), _mask(dead), np.empty(len(queries), np.int64)

        def search(part: slice) -> None:
            self._search_all(words[part], top_k, mask, rows[part], distances[part], steps[part])

        if parts := len(words) // _QUERIES_PER_THREAD:
            in_parts(search, len(words), min(parts, most_threads()))
        else:
            self._search_all(words, top_k, mask, rows, distances, steps)
        return steps

    @abstractmethod
    def _search(self, query: np.ndarray, top_k: int, radius: int, dead: np.ndarray) -> tuple[np.ndarray, int]:
        """Sorted keys of the nearest `top_k` rows within the radius of a query, uint64 (words,), and the steps."""

    @abstractmethod
    def _search_all(
        self, queries: np.ndarray, top_k: int, dead: np.ndarray, rows: np.ndarray, distances: np.ndarray,
        steps: np.ndarray,
    ) -> None:  # fmt: skip
        """The same for queries, uint64 (q, words), without a radius, into rows, distances (q, top_k) and steps (q,)."""


def _fixed(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written, as memory maps cannot: the kernels are compiled for one kind of array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _mask(dead: np.ndarray | None) -> np.ndarray:
    return np.empty(0, bool) if dead is None else dead


@compiled
def push_rows(
    keys: np.ndarray, size: int, limit: int, rows: np.ndarray, distance: int, dead: np.ndarray, top_k: int
) -> tuple[np.ndarray, int, int]:  # pragma: no cover - compiled
    """Collect keys of rising rows at one distance.

    Args:
        keys: holds `size` keys, the nearest `top_k` among them.
        limit: no key from it on enters the answer.

    Returns:
        The array of keys, which may have grown, the size and the limit.
    """
    taken = 0
    for row in rows:
        key = key_of(distance, row)
        if key >= limit or taken == top_k:  # later rows are behind all that were taken
            break
        if len(dead) and dead[row]:
            continue
        taken += 1
        if size == len(keys):
            if size >= 2 * top_k:
                keys[:top_k] = smallest(keys, top_k)
                size, limit = top_k, keys[top_k - 1]
                if key >= limit:
                    break
            else:
                keys = np.concatenate((keys, np.empty(size, np.int64)))
        keys[size] = key
        size += 1
    return keys, size, limit


@compiled
def smallest(keys: np.ndarray, top_k: int) -> np.ndarray:  # pragma: no cover - compiled
    """The first `top_k` of the keys, sorted."""
    if len(keys) > top_k:
        keys = np.partition(keys, top_k - 1)[:top_k]
    return np.sort(keys)


@compiled
def key_of(distance: int, row: int) -> int:  # pragma: no cover - compiled
    """Distance and row in one number."""
    return (np.int64(distance) << _SHIFT) | np.int64(row)


@compiled
def split_keys(keys: np.ndarray, rows: np.ndarray, distances: np.ndarray) -> None:  # pragma: no cover - compiled
    """Write keys as rows and distances, and -1 and 65,535 into the places that are left."""
    for place in range(len(keys)):
        rows[place], distances[place] = keys[place] & _ROW, keys[place] >> _SHIFT
    rows[len(keys) :], distances[len(keys) :] = -1, 65535
