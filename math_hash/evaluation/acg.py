"""Average cumulative gain of Hamming ranking."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import Unpack

from math_hash.evaluation.inputs import Array
from math_hash.evaluation.ranking_metrics import ranking_metrics
from math_hash.evaluation.rules import Rules, columns_at


def acg(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    at: int | Sequence[int],
    **rules: Unpack[Rules],
) -> np.ndarray:
    """Mean number of labels that the first N rows of the ranking share with the query (Jarvelin and Kekalainen 2000).

    The values are those of `ranking_metrics`, which computes all metrics in the same pass.

    Args:
        at: cut-off rank N, or several; ranks beyond the database count as its last one.
        **rules: `k_bits`, `ties`, `no_relevant`, `min_shared` and `relevance`, as in `average_precision`.

    The other arguments and the errors are those of `average_precision`.

    Returns:
        float64 (q,), or (q, c) for c cut-off ranks in their order; >= 0.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 1], [0, 1], [1, 1]])
        >>> acg(codes[:1], codes, labels[:1], labels, at=[1, 2]).tolist()
        [[2.0, 1.5]]
    """
    cuts, columns = columns_at(at)
    metrics = ranking_metrics(query_codes, database_codes, query_labels, database_labels, at=cuts, **rules)
    return metrics.acg[:, columns]
