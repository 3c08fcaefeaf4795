"""The floor: what codes that know nothing reach on the labels at hand."""

import numpy as np


def random_floor(query_labels: np.ndarray, database_labels: np.ndarray) -> float:
    """Expected mAP, over the whole database, of a random ranking.

    For N rows of which R are relevant, the expected average precision of a uniformly random order is
    (H_N + (R - 1) / (N - 1) (N - H_N)) / N with H_N = 1 + 1/2 + ... + 1/N: a relevant row at rank i has precision
    (1 + (i - 1)(R - 1) / (N - 1)) / i, averaged over i. Queries with no relevant row count 0.

    Args:
        query_labels: 0/1 (q, c).
        database_labels: 0/1 (N, c).

    Returns:
        In [0, 1].
    """
    N = len(database_labels)
    relevant = np.zeros(len(query_labels))
    database = np.asarray(database_labels, np.float32)
    for start in range(0, len(query_labels), 256):
        block = np.asarray(query_labels[start : start + 256], np.float32)
        relevant[start : start + 256] = (block @ database.T > 0).sum(axis=1)
    H = (1 / np.arange(1, N + 1)).sum()
    expected = (H + (relevant - 1) / max(N - 1, 1) * (N - H)) / N
    return float(np.where(relevant > 0, expected, 0).mean())


def normalized_score(precision: float, floor: float) -> float:
    """How far a mAP lies between the floor (0) and perfection (1): (mAP - floor) / (1 - floor)."""
    return (precision - floor) / (1 - floor) if floor < 1 else 0.0


def floor_warning(precision: float, floor: float, margin: float = 0.01) -> str | None:
    """A line of warning where a mAP lies within `margin` of the floor, or below it."""
    if precision > floor + margin:
        return None
    return f"mAP {precision:.4f} is not above what random codes reach on these labels ({floor:.4f})"
