"""Multi-index hashing: tables of the rows by the values of substrings of their codes.

Norouzi, Punjani and Fleet, Fast exact search in Hamming space with multi-index hashing (TPAMI 2014), section 3: of m
disjoint substrings, a row at distance d from the query has one at distance <= d / m. So the rows whose substrings lie
within radius r of the query's are looked up, for rising r, and verified. Once the tables 0 ... j have been searched to
radius r and the others to r - 1, all rows at distance <= m r + j are known.
"""

from collections.abc import Mapping
from math import log2

import numba
import numpy as np

from math_hash.hamming.codes import as_words, pack
from math_hash.hamming.kernels import compiled, fill_distances, popcount
from math_hash.hamming.structure import Structure, key_of, smallest, split_keys

_MOST_TABLES = 3  # 4 bytes per row and table
_EVEN_BYTES, _EVEN_PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_8, _16, _32, _64 = np.uint64(8), np.uint64(16), np.uint64(32), np.uint64(64)


class SubstringTables(Structure):
    """Tables of row numbers by substring, each sorted by value, then by row.

    Arrays: `offsets`, uint32 (m, 2^length + 1), where the rows of each value start, and `rows`, uint32 (m, n): at most
    16 bytes per row.
    """

    name, rows_per_step = "mih", 128

    def __init__(self, database: np.ndarray, k_bits: int, arrays: Mapping[str, np.ndarray]):
        super().__init__(database, k_bits, arrays)
        offsets, rows = self.arrays["offsets"], self.arrays["rows"]
        length = (offsets.shape[1] - 1).bit_length() - 1
        starts = np.arange(len(rows)) * (k_bits // len(rows))
        covered = (np.arange(k_bits) >= starts[:, None]) & (np.arange(k_bits) < starts[:, None] + length)
        masks = as_words(pack(covered))
        self._tables = self.database, offsets, rows, starts, masks, length

    @classmethod
    def build(cls, database: np.ndarray, k_bits: int) -> "SubstringTables":
        """Choose the number and the length of the substrings, and fill the tables.

        As in section 3.3 of the paper, substrings have about log2(n) bits; here so many that there are at least as many
        rows as offsets.
        """
        n = database.shape[1]
        tables = min(max(1, round(k_bits / log2(n + 2))), _MOST_TABLES, k_bits)
        length = max(1, min(k_bits // tables, int(log2(max(2, n / tables)))))
        return cls(database, k_bits, fill_tables(database, k_bits, tables, length))

    def _search(self, query: np.ndarray, top_k: int, radius: int, dead: np.ndarray) -> tuple[np.ndarray, int]:
        return _search(query, *self._tables, dead, top_k, radius, self.budget)

    def _search_all(
        self, queries: np.ndarray, top_k: int, dead: np.ndarray, rows: np.ndarray, distances: np.ndarray,
        steps: np.ndarray,
    ) -> None:  # fmt: skip
        _search_all(queries, *self._tables, dead, top_k, self.k_bits, self.budget, rows, distances, steps)


def fill_tables(database: np.ndarray, k_bits: int, tables: int, length: int) -> dict[str, np.ndarray]:
    """The arrays of `SubstringTables` for substrings of this number and length."""
    offsets = np.zeros((tables, 2**length + 1), np.uint32)
    rows = np.empty((tables, database.shape[1]), np.uint32)
    for table in range(tables):
        _fill(database, table * (k_bits // tables), length, offsets[table], rows[table])
    return {"offsets": offsets, "rows": rows}


@compiled
def _fill(
    database: np.ndarray, start: int, length: int, offsets: np.ndarray, rows: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Fill a table by a counting sort: offsets, zeros (2^length + 1), and rows (n)."""
    word = start // 64
    following = min(word + 1, len(database) - 1)
    values = np.empty(len(rows), np.uint32)
    for row in range(len(rows)):
        values[row] = _substring(database[word, row], database[following, row], start % 64, length)
        offsets[values[row] + 1] += 1
    for value in range(len(offsets) - 1):
        offsets[value + 1] += offsets[value]
    free = offsets.copy()
    for row in range(len(rows)):
        rows[free[values[row]]] = row
        free[values[row]] += 1


@numba.njit(inline="always")
def _substring(word: np.uint64, following: np.uint64, start: int, length: int) -> int:  # pragma: no cover - compiled
    """Bits start ... start + length - 1 of two words of a packed code, start < 64, the first bit the most significant.

    The bytes of a word are reversed to get at the bits in their order.
    """
    value = _reversed_bytes(word) << np.uint64(start)
    if start + length > 64:
        value |= _reversed_bytes(following) >> (_64 - np.uint64(start))
    return np.int64(value >> (_64 - np.uint64(length)))


@numba.njit(inline="always")
def _reversed_bytes(word: np.uint64) -> np.uint64:  # pragma: no cover - compiled
    word = ((word >> _8) & _EVEN_BYTES) | ((word & _EVEN_BYTES) << _8)
    word = ((word >> _16) & _EVEN_PAIRS) | ((word & _EVEN_PAIRS) << _16)
    return (word >> _32) | (word << _32)


@numba.njit(inline="always")
def _next_of_same_weight(bits: int) -> int:  # pragma: no cover - compiled
    """The next larger number with as many bits set (Warren, Hacker's Delight, section 2-1)."""
    lowest = bits & -bits
    ripple = bits + lowest
    return ripple | ((bits ^ ripple) >> (2 + np.int64(popcount(np.uint64(lowest - 1)))))


@compiled
def _search(
    query: np.ndarray, database: np.ndarray, offsets: np.ndarray, rows: np.ndarray, starts: np.ndarray,
    masks: np.ndarray, length: int, dead: np.ndarray, top_k: int, radius: int, budget: int,
) -> tuple[np.ndarray, int]:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search`. More steps than the budget mean that the query was given up."""
    tables, steps, buckets, last = len(starts), 0, 1, radius  # the distance of the last row of the answer, or more
    keys, counts = np.empty(0, np.int64), np.zeros(radius + 1, np.int64)  # rows collected; how many at each distance
    for near in range(length + 1):
        for table in range(tables):
            steps += buckets
            if steps > budget:
                return keys[:0], steps
            firsts, lasts = find_buckets(query, offsets[table], starts[table], length, near, buckets)
            steps += (lasts - firsts).sum()
            if steps > budget:
                return keys[:0], steps
            new, distances = _verified(query, database, rows[table], firsts, lasts, masks, near, table, dead, last)
            keys = np.concatenate((keys, new))
            for distance in distances:
                counts[distance] += 1
            nearer = counts.cumsum()
            while last > 0 and nearer[last - 1] >= top_k:
                last -= 1
            if tables * near + table >= last:  # all rows at this distance or nearer have been found
                return smallest(keys[keys < key_of(last + 1, 0)], top_k), steps
        buckets = buckets * (length - near) // (near + 1)
    return smallest(keys, top_k), steps


@compiled
def find_buckets(
    query: np.ndarray, offsets: np.ndarray, start: int, length: int, near: int, buckets: int
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Where the buckets start and end whose values differ from the query's in `near` bits."""
    firsts, lasts = np.empty(buckets, np.int64), np.empty(buckets, np.int64)
    word = start // 64
    value = _substring(query[word], query[min(word + 1, len(query) - 1)], start % 64, length)
    flipped = (1 << near) - 1
    for bucket in range(buckets):
        firsts[bucket], lasts[bucket] = offsets[value ^ flipped], offsets[(value ^ flipped) + 1]
        if near:
            flipped = _next_of_same_weight(flipped)
    return firsts, lasts


@compiled
def _verified(
    query: np.ndarray, database: np.ndarray, rows: np.ndarray, firsts: np.ndarray, lasts: np.ndarray,
    masks: np.ndarray, near: int, table: int, dead: np.ndarray, radius: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip  # pragma: no cover - compiled
    """Keys and distances of the buckets' rows within the radius, without those that came before.

    The loops that wait for memory are short, so that the processor reads many places at once.
    """
    candidates, size = np.empty((lasts - firsts).sum(), np.uint32), 0
    for bucket in range(len(firsts)):
        for place in range(firsts[bucket], lasts[bucket]):
            candidates[size] = rows[place]
            size += 1
    codes, distances = np.empty((len(query), size), np.uint64), np.empty(size, np.uint16)
    for word in range(len(query)):
        for place in range(size):
            codes[word, place] = database[word, candidates[place]]
    fill_distances(query, codes, distances)
    keys, kept = np.empty(size, np.int64), 0
    for place in range(size):
        row = candidates[place]
        if distances[place] > radius or (len(dead) and dead[row]):
            continue
        if not _came_before(query, codes[:, place], masks, near, table):
            keys[kept], distances[kept] = key_of(distances[place], row), distances[place]
            kept += 1
    return keys[:kept], distances[:kept]


@numba.njit(inline="always")
def _came_before(
    query: np.ndarray, code: np.ndarray, masks: np.ndarray, near: int, table: int
) -> bool:  # pragma: no cover - compiled
    """Whether a code in `table` at this distance has been met nearer, or as near in an earlier table."""
    before = False
    for other in range(len(masks)):
        distance = 0
        for word in range(len(query)):
            distance += np.int64(popcount((query[word] ^ code[word]) & masks[other, word]))
        before |= distance < near + (other < table)
    return before


@compiled
def _search_all(
    queries: np.ndarray, database: np.ndarray, offsets: np.ndarray, rows: np.ndarray, starts: np.ndarray,
    masks: np.ndarray, length: int, dead: np.ndarray, top_k: int, radius: int, budget: int,
    near_rows: np.ndarray, distances: np.ndarray, steps: np.ndarray,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """See `Structure._search_all`."""
    for q in range(len(queries)):
        keys, steps[q] = _search(
            queries[q], database, offsets, rows, starts, masks, length, dead, top_k, radius, budget
        )
        split_keys(keys, near_rows[q], distances[q])
