"""Weighted mean average precision of Hamming ranking, for graded relevance."""

import numpy as np

from math_hash.evaluation.inputs import Array, Relevance
from math_hash.evaluation.ranking_metrics import ranking_metrics


def weighted_average_precision(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    k_bits: int | None = None,
    ties: str = "index",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> np.ndarray:
    """Mean of ACG, the average number of shared labels so far, at the ranks of the relevant rows of each query.

    This is the "weighted mAP" of Zhao, Huang, Wang and Tan (CVPR 2015). The values are those of `ranking_metrics`,
    which computes all metrics in the same pass. The arguments and the errors are those of `average_precision`; the
    whole database is ranked.

    Returns:
        float64 (q,), >= 0.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 1], [0, 0], [1, 1]])
        >>> weighted_average_precision(codes[:1], codes, labels[:1], labels).round(3).tolist()
        [1.667]
    """
    metrics = ranking_metrics(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        k_bits=k_bits,
        at=(1,),
        ties=ties,
        no_relevant=no_relevant,
        min_shared=min_shared,
        relevance=relevance,
    )
    return metrics.weighted_average_precision
