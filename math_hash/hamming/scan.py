"""Exact search by a scan over packed codes: the nearest rows, or all rows within a radius, ties by insertion order.

A k-bit code has only k + 1 distances, so counting the accepted rows at each distance tells which distances can still
enter the answer, and the scan needs no heap: most groups of rows are skipped by their lowest distance alone, which
stays in vector registers. The database is read in blocks that stay in the first-level cache while a tile of queries
passes over them.
"""

import numpy as np

from math_hash.hamming.codes import as_words
from math_hash.hamming.kernels import compiled, fill_distances, popcount
from math_hash.hamming.threads import in_parts, most_threads

_TILE, _STRETCH, _BLOCK, _GROUP = 16, 1 << 17, 2048, 64  # queries per tile; rows per stretch, block and group
_ROWS_PER_THREAD = 1 << 22  # distances; below, starting a thread takes longer than it saves


def nearest(
    queries: np.ndarray, database: np.ndarray, k_bits: int, top_k: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each query, sorted by distance, then by row.

    Args:
        queries: packed codes, uint8 (q, bytes).
        database: uint64 (words, n), from `codes.as_planes`.
        k_bits: length of the codes.
        top_k: rows per query.
        dead: bool (n,), True at rows to skip; None skips none.

    Returns:
        Rows, int64, and Hamming distances, uint16, both (q, min(top_k, n)). Where fewer rows are alive, the last
        columns hold -1 and 65,535.

    Example:
        >>> codes = np.array([[0b1111], [0b1110], [0b0000]], np.uint8)
        >>> from math_hash.hamming.codes import as_planes
        >>> rows, distances = nearest(codes[2:], as_planes(codes), k_bits=8, top_k=2)
        >>> rows.tolist(), distances.tolist()
        ([[2, 1]], [[0, 3]])
    """
    words, top_k = as_words(queries), min(top_k, database.shape[1])
    dead = np.empty(0, bool) if dead is None else dead
    total, n = len(words), database.shape[1]
    threads = max(1, min(most_threads(), total * n // _ROWS_PER_THREAD))
    # few queries: each thread scans its part of the database for all of them
    parts = threads if total < 2 * threads and n >= threads * _BLOCK else 1
    rows = np.full((parts, total, top_k), -1, np.int64)
    distances = np.full((parts, total, top_k), 65535, np.uint16)

    def scan_part(part: slice) -> None:
        queries, out = (part, 0) if parts == 1 else (slice(None), part.start)
        start, stop = (0, n) if parts == 1 else (n * part.start // parts, n * part.stop // parts)
        _scan(words[queries], database, dead, k_bits, start, stop, rows[out, queries], distances[out, queries])

    in_parts(scan_part, total if parts == 1 else parts, threads)
    if parts == 1:
        return rows[0], distances[0]
    return merge(np.concatenate(rows, axis=1), np.concatenate(distances, axis=1), top_k)


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
        >>> from math_hash.hamming.codes import as_planes
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


@compiled
def _scan(
    queries: np.ndarray,
    database: np.ndarray,
    dead: np.ndarray,
    k_bits: int,
    start: int,
    stop: int,
    rows: np.ndarray,
    distances: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """The nearest among rows start ... stop - 1, into rows and distances (q, top_k), a tile of queries at a time."""
    for first in range(0, len(queries), _TILE):
        tile = slice(first, first + _TILE)
        _scan_tile(queries[tile], database, dead, k_bits, start, stop, rows[tile], distances[tile])


@compiled
def _scan_tile(
    queries: np.ndarray,
    database: np.ndarray,
    dead: np.ndarray,
    k_bits: int,
    start: int,
    stop: int,
    rows: np.ndarray,
    distances: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """See `_scan`."""
    total, top_k = rows.shape
    if top_k == 0:
        return
    room = 2 * top_k + 1024
    candidates, candidate_distances = np.empty((total, room), np.int64), np.empty((total, room), np.uint16)
    size = np.zeros(total, np.int64)
    limit = np.full(total, k_bits + 1, np.int64)  # a row enters where its distance is below
    counts = np.zeros((total, k_bits + 2), np.int64)  # of the rows that entered
    lowest, before = np.empty((total, _STRETCH // _GROUP), np.uint16), np.zeros(_BLOCK, np.uint16)
    for stretch in range(start, stop, _STRETCH):
        end = min(stretch + _STRETCH, stop)
        for block in range(stretch, end, _BLOCK):
            for q in range(total):
                groups = lowest[q, (block - stretch) // _GROUP :]
                _fill_lowest(queries[q], database, block, min(block + _BLOCK, end), before, groups)
        for q in range(total):
            groups = lowest[q, : -(-(end - stretch) // _GROUP)]
            if len(dead) == 0:
                limit[q] = _lower_limit(groups, counts[q], limit[q], top_k)
            size[q], limit[q] = _collect(
                queries[q], database, dead, stretch, end, groups, limit[q], counts[q], candidates[q],
                candidate_distances[q], size[q], k_bits, top_k,
            )  # fmt: skip
    for q in range(total):
        kept = _keep_best(candidates[q], candidate_distances[q], size[q], k_bits, top_k)
        rows[q, :kept], distances[q, :kept] = candidates[q, :kept], candidate_distances[q, :kept]


@compiled
def _fill_lowest(
    query: np.ndarray, database: np.ndarray, start: int, stop: int, before: np.ndarray, lowest: np.ndarray
) -> None:  # pragma: no cover - compiled
    """The lowest distance in each group of rows start ... stop - 1.

    Loops of constant length become vector instructions: population counts where the processor has them (AVX-512
    VPOPCNTDQ), else table look-ups. `before` has room for the distances of all words but the last one, whose
    distances are never stored.
    """
    last = len(query) - 1
    word, words = query[last], database[last][start:stop]
    if last:
        fill_distances(query[:last], database[:last], before[: stop - start], start)
    whole = len(words) // _GROUP
    for group in range(whole):
        least = np.int64(65535)
        if last:
            for place in range(group * _GROUP, (group + 1) * _GROUP):
                least = min(least, before[place] + np.int64(popcount(word ^ words[place])))
        else:  # most codes have one word, and reading zeros would take a third of the time
            for place in range(group * _GROUP, (group + 1) * _GROUP):
                least = min(least, np.int64(popcount(word ^ words[place])))
        lowest[group] = least
    if whole * _GROUP < len(words):
        lowest[whole] = 65535
        for place in range(whole * _GROUP, len(words)):
            lowest[whole] = min(lowest[whole], before[place] + np.uint16(popcount(word ^ words[place])))


@compiled
def _lower_limit(lowest: np.ndarray, counts: np.ndarray, limit: int, top_k: int) -> int:  # pragma: no cover - compiled
    """The limit after groups with these lowest distances: each has a row as near as that, beside the rows counted."""
    nearer = counts[:limit].copy()
    for group in range(len(lowest)):
        if lowest[group] < limit:
            nearer[lowest[group]] += 1
    inside = 0
    for distance in range(limit):
        inside += nearer[distance]
        if inside >= top_k:
            return distance + 1
    return limit


@compiled
def _collect(
    query: np.ndarray,
    database: np.ndarray,
    dead: np.ndarray,
    start: int,
    stop: int,
    lowest: np.ndarray,
    limit: int,
    counts: np.ndarray,
    candidates: np.ndarray,
    distances: np.ndarray,
    size: int,
    k_bits: int,
    top_k: int,
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Add the rows below the limit to the candidates, which are `size` so far. Returns the new size and limit."""
    inside = counts[:limit].sum()  # candidates below the limit
    near = np.empty(_GROUP, np.uint16)
    for group in range(len(lowest)):
        if lowest[group] >= limit:
            continue
        first = start + group * _GROUP
        length = min(_GROUP, stop - first)
        fill_distances(query, database, near[:length], first)
        for place in range(length):
            distance = near[place]
            if distance >= limit or (len(dead) and dead[first + place]):
                continue
            if size == len(candidates):
                size = _keep_best(candidates, distances, size, k_bits, top_k)
            candidates[size], distances[size] = first + place, distance
            size += 1
            counts[distance] += 1
            inside += 1
            while inside >= top_k:
                limit -= 1
                inside -= counts[limit]
    return size, limit


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
