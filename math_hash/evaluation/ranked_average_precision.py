"""Average precision of rankings that are given as orders of rows, whatever scored them."""

import numpy as np


def ranked_average_precision(relevant: np.ndarray) -> np.ndarray:
    """AP of each query: the mean, over its relevant rows, of the precision at their ranks.

    Args:
        relevant: bool (q, n), whether the row at each rank is relevant, the nearest first.

    Returns:
        float64 (q,), in [0, 1]; a query without a relevant row counts 0.

    Example:
        >>> ranked_average_precision(np.array([[True, False, True], [False, False, False]])).round(3).tolist()
        [0.833, 0.0]
    """
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    return (precision * relevant).sum(axis=1) / np.maximum(relevant.sum(axis=1), 1)
