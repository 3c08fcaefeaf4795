"""Exact search of few codes by NumPy: importing and compiling what `scan` runs takes longer than they take."""

import numpy as np

from math_hash.hamming.codes import as_words

FEW = 1 << 14  # words to compare, below which a search takes a fraction of a millisecond


def nearest(
    queries: np.ndarray, database: np.ndarray, top_k: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The answer of `scan.nearest`, with the same arguments.

    Example:
        >>> rows, distances = nearest(np.array([[0]], np.uint8), np.array([[3, 1, 0]], np.uint64), top_k=2)
        >>> rows.tolist(), distances.tolist()
        ([[2, 1]], [[0, 1]])
    """
    distances = _distances(queries, database)
    if dead is not None:
        distances[:, dead] = 65535
    rows = np.argsort(distances, axis=1, kind="stable")[:, :top_k]
    distances = np.take_along_axis(distances, rows, axis=1)
    return np.where(distances == 65535, -1, rows), distances


def within(
    query: np.ndarray, database: np.ndarray, radius: int, dead: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The answer of `scan.within`, with the same arguments.

    Example:
        >>> rows, distances = within(np.array([0], np.uint8), np.array([[3, 1, 0]], np.uint64), radius=1)
        >>> rows.tolist(), distances.tolist()
        ([2, 1], [0, 1])
    """
    rows, distances = nearest(query[None], database, database.shape[1], dead)
    near = (distances[0] <= radius) & (rows[0] >= 0)
    return rows[0][near], distances[0][near]


def _distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    words = as_words(queries)  # (q, words)
    distances = np.zeros((len(words), database.shape[1]), np.uint16)
    for query_words, rows in zip(words.T, database, strict=True):
        distances += np.bitwise_count(query_words[:, None] ^ rows)
    return distances
