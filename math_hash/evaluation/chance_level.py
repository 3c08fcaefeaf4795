"""The chance level: the mAP of a random ranking on given labels, and scores relative to it."""

import numpy as np


def chance_level(query_labels: np.ndarray, database_labels: np.ndarray) -> float:
    """Expected mAP, over the whole database, of a random ranking.

    For N rows of which R are relevant, the expected average precision of a uniformly random order is
    (H_N + (R - 1) / (N - 1) (N - H_N)) / N with H_N = 1 + 1/2 + ... + 1/N: a relevant row at rank i has precision
    (1 + (i - 1)(R - 1) / (N - 1)) / i, averaged over i. Queries with no relevant row count 0.

    Args:
        query_labels: 0/1 (q, c).
        database_labels: 0/1 (N, c); a row is relevant where it shares a label with the query.

    Returns:
        In [0, 1].

    Example:
        >>> import numpy as np
        >>> round(chance_level(np.array([[1, 0]]), np.array([[1, 0], [0, 1]])), 3)
        0.75
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


def normalized_score(mean_average_precision: float, chance: float) -> float:
    """Where a mAP lies between the chance level (0) and perfection (1): (mAP - chance) / (1 - chance).

    Args:
        mean_average_precision: in [0, 1].
        chance: the chance level of the same labels, in [0, 1].

    Returns:
        At most 1, and below 0 for a mAP below the chance level; 0 where the chance level itself is 1.

    Example:
        >>> round(normalized_score(0.78, chance=0.56), 3)
        0.5
    """
    return (mean_average_precision - chance) / (1 - chance) if chance < 1 else 0.0


def chance_level_warning(mean_average_precision: float, chance: float, margin: float = 0.01) -> str | None:
    """A line of warning where a mAP is at most `margin` above the chance level, else None.

    Example:
        >>> chance_level_warning(0.565, chance=0.56)
        'mAP 0.5650 is not above the chance level of these labels (0.5600)'
    """
    if mean_average_precision > chance + margin:
        return None
    return f"mAP {mean_average_precision:.4f} is not above the chance level of these labels ({chance:.4f})"
