"""The reference line of a comparison: mAP of the encoder's own vectors before they are hashed."""

import numpy as np

from math_hash.evaluation.ranked_average_precision import ranked_average_precision


def cosine_mean_average_precision(
    query: np.ndarray, database: np.ndarray, query_labels: np.ndarray, database_labels: np.ndarray
) -> float:
    """mAP over the whole database, ranked by the cosine of float vectors; ties in database order.

    Args:
        query: float (q, d).
        database: float (N, d).
        query_labels: 0/1 (q, c).
        database_labels: 0/1 (N, c); a row is relevant where it shares a label with the query.

    Returns:
        In [0, 1]; a query without a relevant row counts 0.

    Example:
        >>> import numpy as np
        >>> vectors, labels = np.eye(3), np.array([[1, 0], [0, 1], [1, 0]])
        >>> round(cosine_mean_average_precision(vectors, vectors, labels, labels), 3)
        0.944
    """
    query, database = (v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in (query, database))
    total = 0.0
    for vector, labels in zip(query, query_labels.astype(np.float32), strict=True):
        order = np.argsort(-(database @ vector), kind="stable")
        relevant = (database_labels[order].astype(np.float32) @ labels) > 0
        total += ranked_average_precision(relevant[None])[0]
    return float(total / len(query))
