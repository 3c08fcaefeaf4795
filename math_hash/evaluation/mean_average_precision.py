"""Mean average precision of Hamming ranking: the field's mAP."""

import numpy as np

from math_hash.evaluation.average_precision import average_precision
from math_hash.evaluation.inputs import Array, Relevance


def mean_average_precision(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    k_bits: int | None = None,
    top_k: int | None = None,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> float:
    """Mean of `average_precision` over the queries; arguments and errors are the same.

    Returns:
        In [0, 1]. With `no_relevant="skip"` the mean is over the queries that have a relevant row.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 0], [0, 1], [1, 0]])
        >>> round(mean_average_precision(codes, codes, labels, labels), 3)
        0.889
    """
    precision = average_precision(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        k_bits=k_bits,
        top_k=top_k,
        ties=ties,
        normalizer=normalizer,
        no_relevant=no_relevant,
        min_shared=min_shared,
        relevance=relevance,
    )
    return float(np.nanmean(precision))
