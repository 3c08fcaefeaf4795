"""Exact search by a scan over packed codes: the nearest rows, or all rows within a radius, ties by insertion order.

A k-bit code has only k + 1 distances, so counting the accepted rows at each distance tells which distances can still
enter the answer, and the scan needs no heap: a vector comparison skips nearly all rows. The database is read in blocks
that stay in the first-level cache while a tile of queries passes over them.
"""

import threading

import numba
import numpy as np

from math_hash.hamming.codes import as_words
from math_hash.hamming.kernels import compiled, fill_distances

_TILE, _BLOCK, _GROUP = 16, 2048, 64  # queries per tile; rows per block; rows per comparison
_one_at_a_time = threading.Lock()  # not every threading layer of numba can be entered twice


def as_planes(packed: np.ndarray) -> np.ndarray:
    """Packed codes, uint8 (n, bytes), in the layout that the scan reads: uint64 (words, n)."""
    return np.ascontiguousarray(as_words(packed).T)


def nearest(
    queries: np.ndarray, database: np.ndarray, k_bits: int, top_k: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each query, sorted by distance, then by row.

    Args:
        queries: packed codes, uint8 (q, bytes).
        database: uint64 (words, n), from `as_planes`.
        k_bits: length of the codes.
        top_k: rows per query.
        dead: bool (n,), True at rows to skip; None skips none.

    Returns:
        Rows, int64, and Hamming distances, uint16, both (q, min(top_k, n)). Where fewer rows are alive, the last
        columns hold -1 and 65,535.

    Example:
        >>> codes = np.array([[0b1111], [0b1110], [0b0000]], np.uint8)
        >>> rows, distances = nearest(codes[2:], as_planes(codes), k_bits=8, top_k=2)
        >>> rows.tolist(), distances.tolist()
        ([[2, 1]], [[0, 3]])
    """
    words, top_k = as_words(queries), min(top_k, database.shape[1])
    dead = np.empty(0, bool) if dead is None else dead
    with _one_at_a_time:
        threads = numba.get_num_threads()
        # few queries: each thread scans its part of the database for all of them
        parts = threads if len(words) < 2 * threads and database.shape[1] >= threads * _BLOCK else 1
        rows, distances = _nearest(words, database, dead, k_bits, top_k, parts, threads)
    if parts > 1:
        rows, distances = merge(rows.reshape(len(words), -1), distances.reshape(len(words), -1), top_k)
        return rows, distances
    return rows[:, 0], distances[:, 0]


def merge(rows: np.ndarray, distances: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge results of several parts, rows and distances (q, m): the first `top_k` columns by distance, sorted stably.

    Example:
        >>> rows, distances = merge(np.array([[4, 7, 2]]), np.array([[1, 3, 1]]), top_k=2)
        >>> rows.tolist(), distances.tolist()
        ([[4, 2]], [[1, 1]])
    """
    order = np.argsort(distances, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def within(
    query: np.ndarray, database: np.ndarray, radius: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All rows at distance <= radius of one packed query, uint8 (bytes,), sorted by distance, then by row.

    Args:
        database, dead: as in `nearest`.

    Returns:
        Rows, int64, and Hamming distances, uint16, both (m,).

    Example:
        >>> codes = np.array([[0b1111], [0b1110], [0b0000]], np.uint8)
        >>> rows, distances = within(codes[0], as_planes(codes), radius=1)
        >>> rows.tolist(), distances.tolist()
        ([0, 1], [0, 1])
    """
    distances = np.empty(database.shape[1], np.uint16)
    fill_distances(as_words(query[None])[0], database, distances)
    near = distances <= radius
    if dead is not None:
        near &= ~dead
    rows = np.flatnonzero(near)
    order = np.argsort(distances[rows], kind="stable")
    return rows[order], distances[rows][order]


@numba.njit(parallel=True, cache=True, nogil=True)
def _nearest(
    queries: np.ndarray, database: np.ndarray, dead: np.ndarray, k_bits: int, top_k: int, parts: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Rows and distances (q, parts, top_k): the nearest rows within each part of the database."""
    total, n = len(queries), database.shape[1]
    rows = np.full((total, parts, top_k), -1, np.int64)
    distances = np.full((total, parts, top_k), 65535, np.uint16)
    tile = min(_TILE, max(1, -(-total // threads)))
    tiles = -(-total // tile)
    for task in numba.prange(tiles * parts):
        part, first = task % parts, task // parts * tile
        last = min(first + tile, total)
        _scan_part(
            queries[first:last], database, dead, k_bits, n * part // parts, n * (part + 1) // parts,
            rows[first:last, part], distances[first:last, part],
        )  # fmt: skip
    return rows, distances


@compiled
def _scan_part(
    queries: np.ndarray,
    database: np.ndarray,
    dead: np.ndarray,
    k_bits: int,
    start: int,
    stop: int,
    rows: np.ndarray,
    distances: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """The nearest among rows start ... stop - 1, into rows and distances (q, top_k)."""
    total, top_k = rows.shape
    room = 2 * top_k + 1024
    candidates, candidate_distances = np.empty((total, room), np.int64), np.empty((total, room), np.uint16)
    size, inside = np.zeros(total, np.int64), np.zeros(total, np.int64)  # candidates; those below the limit
    limit = np.full(total, k_bits + 1, np.uint16)  # a row enters where its distance is below
    counts = np.zeros((total, k_bits + 2), np.int64)  # of the rows that entered
    buffer, marked = np.empty(_BLOCK, np.uint16), np.empty(_BLOCK // _GROUP, np.bool_)
    for block in range(start, stop, _BLOCK):
        end = min(block + _BLOCK, stop)
        for q in range(total):
            if top_k == 0:
                continue
            fill_distances(queries[q], database, buffer[: end - block], block)
            buffer[end - block :] = 65535
            _mark_groups(buffer, limit[q], marked)
            for group in range(_BLOCK // _GROUP):
                if not marked[group]:
                    continue
                for place in range(group * _GROUP, (group + 1) * _GROUP):
                    distance = buffer[place]
                    if distance >= limit[q] or (len(dead) and dead[block + place]):
                        continue
                    if size[q] == room:
                        size[q] = _keep_best(candidates[q], candidate_distances[q], size[q], k_bits, top_k)
                    candidates[q, size[q]], candidate_distances[q, size[q]] = block + place, distance
                    size[q] += 1
                    counts[q, distance] += 1
                    inside[q] += 1
                    while inside[q] >= top_k:
                        limit[q] -= np.uint16(1)
                        inside[q] -= counts[q, limit[q]]
    for q in range(total):
        kept = _keep_best(candidates[q], candidate_distances[q], size[q], k_bits, top_k)
        rows[q, :kept], distances[q, :kept] = candidates[q, :kept], candidate_distances[q, :kept]


@compiled
def _mark_groups(distances: np.ndarray, limit: int, marked: np.ndarray) -> None:  # pragma: no cover - compiled
    """Mark the groups that hold a distance below the limit; loops of constant length become vector instructions."""
    for group in range(_BLOCK // _GROUP):
        hits = np.uint16(0)
        for place in range(_GROUP):
            hits += np.uint16(distances[group * _GROUP + place] < limit)
        marked[group] = hits > 0


@compiled
def _keep_best(
    candidates: np.ndarray, distances: np.ndarray, size: int, k_bits: int, top_k: int
) -> int:  # pragma: no cover - compiled
    """Sort the first `size` candidates by distance, stably, and keep the first `top_k`. Returns the number kept."""
    first = np.zeros(k_bits + 2, np.int64)
    for i in range(size):
        first[distances[i] + 1] += 1
    for distance in range(k_bits + 1):
        first[distance + 1] += first[distance]
    kept = min(size, top_k)
    sorted_rows, sorted_distances = np.empty(kept, np.int64), np.empty(kept, np.uint16)
    for i in range(size):
        place = first[distances[i]]
        first[distances[i]] += 1
        if place < kept:
            sorted_rows[place], sorted_distances[place] = candidates[i], distances[i]
    candidates[:kept], distances[:kept] = sorted_rows, sorted_distances
    return kept
