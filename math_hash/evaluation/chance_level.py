"""The chance level: the mAP of a random ranking on given labels, and scores relative to it."""

import numpy as np

from math_hash.evaluation import kernels
from math_hash.evaluation.inputs import Array, Relevance, as_numpy, gain_blocks
from math_hash.evaluation.rules import NORMALIZERS, cut_off, require_rules, without_relevant

_ROWS_AT_ONCE = 256


def chance_level(
    query_labels: Array,
    database_labels: Array,
    *,
    top_k: int | None = None,
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> float:
    """Expected mAP of a random ranking: the exact mean over all orders of the database.

    For N rows of which R are relevant, the expected average precision over the whole database is
    (H_N + (R - 1) / (N - 1) (N - H_N)) / N with H_N = 1 + 1/2 + ... + 1/N: a relevant row at rank i has precision
    (1 + (i - 1)(R - 1) / (N - 1)) / i, averaged over i. With a cut-off it is that of one tie of all N rows.

    Args:
        query_labels: 0/1 (q, c).
        database_labels: 0/1 (N, c).

    The other arguments and the errors are those of `average_precision`: under the same rules, codes that know nothing
    of the labels reach this mAP. Ties in favor of relevant rows ("optimistic") lift them above it.

    Returns:
        In [0, 1].

    Example:
        >>> import numpy as np
        >>> round(chance_level(np.array([[1, 0]]), np.array([[1, 0], [0, 1]])), 3)
        0.75
    """
    require_rules(normalizer, "expected", no_relevant)
    labels = as_numpy(query_labels), as_numpy(database_labels)
    gains = gain_blocks(relevance or _shared_labels, *labels, _ROWS_AT_ONCE)
    minimum = 1 if relevance else min_shared
    relevant = np.concatenate([(block >= minimum).sum(axis=1) for _, block in gains])
    N = len(labels[1])
    different, places = np.unique(relevant, return_inverse=True)
    one_tie = np.stack([N - different, different], axis=1)
    expected = kernels.expected_precisions(one_tie, 0, cut_off(top_k, N), NORMALIZERS[normalizer], N)
    return float(np.nanmean(without_relevant(expected[places], relevant, no_relevant)))


def _shared_labels(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Numbers of shared labels, float32 (b, N)."""
    return query_labels.astype(np.float32) @ database_labels.astype(np.float32).T


def normalized_score(mean_average_precision: float, chance: float, best: float = 1.0) -> float:
    """Where a mAP lies between the chance level (0) and a perfect ranking (1): (mAP - chance) / (best - chance).

    Args:
        mean_average_precision: in [0, 1].
        chance: the chance level of the same labels, in [0, 1].
        best: mAP of a perfect ranking: below 1 where queries without relevant rows count 0.

    Returns:
        At most 1, and below 0 for a mAP below the chance level; 0 where no ranking is better than chance.

    Example:
        >>> round(normalized_score(0.78, chance=0.56), 3)
        0.5
    """
    return (mean_average_precision - chance) / (best - chance) if chance < best else 0.0


def chance_level_warning(mean_average_precision: float, chance: float, margin: float = 0.01) -> str | None:
    """A line of warning where a mAP is at most `margin` above the chance level, else None.

    Example:
        >>> chance_level_warning(0.565, chance=0.56)
        'mAP 0.5650 is not above the chance level of these labels (0.5600)'
    """
    if mean_average_precision > chance + margin:
        return None
    return f"mAP {mean_average_precision:.4f} is not above the chance level of these labels ({chance:.4f})"
