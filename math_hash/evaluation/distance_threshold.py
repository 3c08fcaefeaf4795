"""The Hamming distance up to which two codes count as close, at a stated false-positive rate."""

import numpy as np

from math_hash.evaluation.inputs import Array, packed_codes
from math_hash.hamming.codes import hamming_distance

_BLOCK = 256  # queries at once


def distance_threshold(
    query_codes: Array, database_codes: Array, query_labels: np.ndarray, database_labels: np.ndarray, rate: float
) -> int | None:
    """The largest distance d such that at most a share `rate` of the pairs that share no label are within d.

    Args:
        query_codes, database_codes: as for `mean_average_precision`, of rows that were not trained on.
        query_labels, database_labels: 0/1 (q, c) and (n, c).
        rate: the false-positive rate, in [0, 1).

    Returns:
        None if no pair lacks a common label, or if more than `rate` of those that do have equal codes.

    Example:
        >>> codes, labels = np.array([[1, 1, 1], [1, 1, -1], [-1, -1, -1]]), np.eye(3)
        >>> [distance_threshold(codes, codes, labels, labels, rate) for rate in (0.1, 0.4)]  # distances 1, 2, 3, twice
        [0, 1]
    """
    queries, k_bits = packed_codes(query_codes, None, "query_codes")
    database, _ = packed_codes(database_codes, None, "database_codes")
    shared = np.asarray(database_labels, np.float32).T
    pairs = np.zeros(k_bits + 1, np.int64)  # that share no label, by distance
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        unrelated = np.asarray(query_labels[block], np.float32) @ shared == 0
        pairs += np.bincount(hamming_distance(queries[block], database)[unrelated], minlength=k_bits + 1)
    if not pairs.any():
        return None
    within = int((np.cumsum(pairs) <= rate * pairs.sum()).sum())  # distances 0 ... d that fit
    return within - 1 if within else None
