"""Exact search by a scan over packed codes: the nearest rows, or all rows within a radius, ties by insertion order.

A k-bit code has only k + 1 distances, so counting the accepted rows a distance tells at once which distance still can
enter the answer, and the scan needs no heap: a vector comparison passes over nearly all rows. The database is read in
blocks that stay in the first-level cache while a tile of queries passes over them.
"""

import threading

import numba
import numpy as np

from math_hash.hamming.codes import as_words
from math_hash.hamming.kernels import compiled, fill_distances

_TILE, _BLOCK, _GROUP = 16, 2048, 64  # queries together; rows a block; rows a comparison
_one_at_a_time = threading.Lock()  # not every threading layer of numba may be entered twice


def as_planes(packed: np.ndarray) -> np.ndarray:
    """Packed codes, uint8 (n, bytes), as the scan reads them: uint64 (words, n)."""
    return np.ascontiguousarray(as_words(packed).T)


def nearest(
    queries: np.ndarray, database: np.ndarray, k_bits: int, top_k: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each query, sorted by distance, then by row.

    Args:
        queries: packed codes, uint8 (q, bytes).
        database: uint64 (words, n), as `as_planes` gives them.
        dead: bool (n,), True at rows that are passed over; None: no row is.

    Returns:
        Rows, int64, and Hamming distances, uint16, both (q, min(top_k, n)). Where fewer rows are alive, the last
        columns hold -1 and 65,535.
    """
    words, top_k = as_words(queries), min(top_k, database.shape[1])
    dead = np.empty(0, bool) if dead is None else dead
    with _one_at_a_time:
        threads = numba.get_num_threads()
        # few queries: each thread takes its part of the database for all of them
        parts = threads if len(words) < 2 * threads and database.shape[1] >= threads * _BLOCK else 1
        rows, distances = _nearest(words, database, dead, k_bits, top_k, parts, threads)
    if parts > 1:
        rows, distances = merge(rows.reshape(len(words), -1), distances.reshape(len(words), -1), top_k)
        return rows, distances
    return rows[:, 0], distances[:, 0]


def merge(rows: np.ndarray, distances: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `top_k` columns by distance; those of one distance keep their order."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def within(
    query: np.ndarray, database: np.ndarray, radius: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All rows at distance <= radius of one packed query, uint8 (bytes,), sorted by distance, then by row.

    Returns:
        Rows, int64, and Hamming distances, uint16.
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
def _nearest(queries, database, dead, k_bits, top_k, parts, threads):  # pragma: no cover - compiled
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
def _scan_part(queries, database, dead, k_bits, start, stop, rows, distances):  # pragma: no cover - compiled
    """The nearest of rows start to stop, into rows and distances (queries, top_k)."""
    total, top_k = rows.shape
    room = 2 * top_k + 1024
    candidates, their = np.empty((total, room), np.int64), np.empty((total, room), np.uint16)
    size, inside = np.zeros(total, np.int64), np.zeros(total, np.int64)
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
                        size[q] = _keep_best(candidates[q], their[q], size[q], k_bits, top_k)
                    candidates[q, size[q]], their[q, size[q]] = block + place, distance
                    size[q] += 1
                    counts[q, distance] += 1
                    inside[q] += 1
                    while inside[q] >= top_k:
                        limit[q] -= np.uint16(1)
                        inside[q] -= counts[q, limit[q]]
    for q in range(total):
        kept = _keep_best(candidates[q], their[q], size[q], k_bits, top_k)
        rows[q, :kept], distances[q, :kept] = candidates[q, :kept], their[q, :kept]


@compiled
def _mark_groups(distances, limit, marked):  # pragma: no cover - compiled
    """Whether a distance of each group is below the limit, into marked; constant lengths make vector instructions."""
    for group in range(_BLOCK // _GROUP):
        hits = np.uint16(0)
        for place in range(_GROUP):
            hits += np.uint16(distances[group * _GROUP + place] < limit)
        marked[group] = hits > 0


@compiled
def _keep_best(candidates, distances, size, k_bits, top_k):  # pragma: no cover - compiled
    """Sort the first `size` candidates by distance, stably, and keep the first top_k. Returns how many these are."""
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
