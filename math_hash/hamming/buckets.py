"""Bucket tables: rows grouped by their whole code, in rising order, so that equal codes are compared once."""

import numpy as np

from math_hash.hamming.kernels import compiled, fill_distances
from math_hash.hamming.structure import Structure, key_of, push_rows, smallest, split_keys
from math_hash.hamming.substring_tables import fill_tables, find_buckets


def build_buckets(database: np.ndarray, k_bits: int) -> Structure:
    """`Balls` where there are at least as many rows as possible codes, else `DistinctCodes`."""
    return (Balls if are_short(database, k_bits) else DistinctCodes).build(database, k_bits)


def are_short(database: np.ndarray, k_bits: int) -> bool:
    """Whether a table with a place for each possible code is no larger than one with a place for each row."""
    return 2**k_bits <= max(256, database.shape[1])


class Balls(Structure):
    """A bucket for each possible code; a query visits those within a radius that grows.

    Arrays: `offsets`, uint32 (2^k_bits + 1), where the rows of each code start, and `rows`, uint32 (n,).
    """

    name, rows_per_step = "bucket", 16

    @classmethod
    def build(cls, database: np.ndarray, k_bits: int) -> "Balls":
        """Group the rows by a counting sort."""
        tables = fill_tables(database, k_bits, tables=1, length=k_bits)
        return cls(database, k_bits, {name: array[0] for name, array in tables.items()})

    def _search(self, query: np.ndarray, top_k: int, radius: int, dead: np.ndarray) -> tuple[np.ndarray, int]:
        offsets, rows = self.arrays["offsets"], self.arrays["rows"]
        return _search_balls(query, offsets, rows, self.k_bits, dead, top_k, radius, self.budget)

    def _search_all(
        self, queries: np.ndarray, top_k: int, dead: np.ndarray, rows: np.ndarray, distances: np.ndarray,
        steps: np.ndarray,
    ) -> None:  # fmt: skip
        arrays = self.arrays["offsets"], self.arrays["rows"]
        _search_all_balls(queries, *arrays, self.k_bits, dead, top_k, self.budget, rows, distances, steps)


@compiled
def _search_balls(
    query: np.ndarray, offsets: np.ndarray, rows: np.ndarray, k_bits: int, dead: np.ndarray, top_k: int, radius: int,
    budget: int,
) -> tuple[np.ndarray, int]:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search`. More steps than the budget mean that the query was given up."""
    keys, size, limit = np.empty(1024, np.int64), 0, key_of(radius + 1, 0)
    buckets, steps = 1, 0
    for near in range(radius + 1):
        steps += buckets
        if steps > budget:
            return keys[:0], steps
        firsts, lasts = find_buckets(query, offsets, 0, k_bits, near, buckets)
        for bucket in range(buckets):
            some = rows[firsts[bucket] : lasts[bucket]]
            keys, size, limit = push_rows(keys, size, limit, some, near, dead, top_k)
        if size >= top_k:
            break
        buckets = buckets * (k_bits - near) // (near + 1)
    return smallest(keys[:size], top_k), steps


@compiled
def _search_all_balls(
    queries: np.ndarray, offsets: np.ndarray, rows: np.ndarray, k_bits: int, dead: np.ndarray, top_k: int, budget: int,
    near_rows: np.ndarray, distances: np.ndarray, steps: np.ndarray,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search_all`."""
    for q in range(len(queries)):
        keys, steps[q] = _search_balls(queries[q], offsets, rows, k_bits, dead, top_k, k_bits, budget)
        split_keys(keys, near_rows[q], distances[q])


class DistinctCodes(Structure):
    """The distinct codes, each with its rows; a query is compared with all of them.

    Arrays: `codes`, uint64 (words, d), from `codes.as_planes`; `offsets`, uint32 (d + 1), where the rows of each start;
    `rows`, uint32 (n,).
    """

    name, rows_per_step = "bucket", 8

    @classmethod
    def build(cls, database: np.ndarray, k_bits: int) -> "DistinctCodes":
        """Group the rows by sorting them."""
        order = np.lexsort(database[::-1])  # stable
        new = np.ones(len(order), bool)
        new[1:] = (database[:, order[1:]] != database[:, order[:-1]]).any(axis=0)
        offsets = np.append(np.flatnonzero(new), len(order)).astype(np.uint32)
        codes = np.ascontiguousarray(database[:, order[new]])
        return cls(database, k_bits, {"codes": codes, "offsets": offsets, "rows": order.astype(np.uint32)})

    def cost(self, queries: np.ndarray, top_k: int) -> float:
        """See `Structure.cost`: a step compares a distinct code and counts its rows."""
        return self.rows_per_step * self.arrays["codes"].shape[1]

    def _search(self, query: np.ndarray, top_k: int, radius: int, dead: np.ndarray) -> tuple[np.ndarray, int]:
        codes, offsets, rows = self.arrays["codes"], self.arrays["offsets"], self.arrays["rows"]
        return _search_codes(query, codes, offsets, rows, dead, top_k, radius), 0

    def _search_all(
        self, queries: np.ndarray, top_k: int, dead: np.ndarray, rows: np.ndarray, distances: np.ndarray,
        steps: np.ndarray,
    ) -> None:  # fmt: skip
        arrays = self.arrays
        _search_all_codes(
            queries, arrays["codes"], arrays["offsets"], arrays["rows"], dead, top_k, self.k_bits, rows, distances
        )
        steps[:] = 0


@compiled
def _search_codes(
    query: np.ndarray, codes: np.ndarray, offsets: np.ndarray, rows: np.ndarray, dead: np.ndarray, top_k: int,
    radius: int,
) -> np.ndarray:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search`."""
    distances = np.empty(codes.shape[1], np.uint16)
    fill_distances(query, codes, distances)
    counts = np.zeros(radius + 1, np.int64)  # of rows, dead ones included, at each distance
    for code in range(len(distances)):
        if distances[code] <= radius:
            counts[distances[code]] += np.int64(offsets[code + 1] - offsets[code])
    keys, size, limit = np.empty(1024, np.int64), 0, key_of(radius + 1, 0)
    known, following = -1, 0
    while size < top_k and known < radius:
        expected = size + counts[following]
        while expected < top_k and following < radius:
            following += 1
            expected += counts[following]
        for code in _between(distances, known, following):
            some = rows[offsets[code] : offsets[code + 1]]
            keys, size, limit = push_rows(keys, size, limit, some, distances[code], dead, top_k)
        known, following = following, following + 1
    return smallest(keys[:size], top_k)


@compiled
def _between(distances: np.ndarray, known: int, most: int) -> np.ndarray:  # pragma: no cover - compiled
    """Places of the distances above `known` and up to `most`; a loop that does no more is fast."""
    places, size = np.empty(len(distances), np.int64), 0
    for place in range(len(distances)):
        if known < np.int64(distances[place]) <= most:
            places[size] = place
            size += 1
    return places[:size]


@compiled
def _search_all_codes(
    queries: np.ndarray, codes: np.ndarray, offsets: np.ndarray, rows: np.ndarray, dead: np.ndarray, top_k: int,
    radius: int, near_rows: np.ndarray, distances: np.ndarray,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search_all`."""
    for q in range(len(queries)):
        keys = _search_codes(queries[q], codes, offsets, rows, dead, top_k, radius)
        split_keys(keys, near_rows[q], distances[q])
