"""Asymmetric scores: a query's continuous code against the stored bits of rows.

Binarizing a query throws away how sure each of its bits is, although nothing forces it: only the rows have to be
stored in few bytes. With the query's values q and a row's bits b in -1/+1, the score is q . b = sum |q_i| - 2 * (sum
of |q_i| over the bits in which the row differs from the query's signs). So its order is that of a Hamming distance
whose bits weigh |q_i|: the lower bound of Dong, Charikar and Li, "Asymmetric distance estimation with sketches for
similarity search in high-dimensional spaces" (SIGIR 2008), and of Gordo, Perronnin, Gong and Lazebnik, "Asymmetric
distances for binary embeddings" (TPAMI 2014), section 3.
"""

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.codes import as_signs, unpack

_SIGNS_OF_BYTES = as_signs(unpack(np.arange(256, dtype=np.uint8)[:, None], 8))  # (256, 8)


def asymmetric_scores(queries: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """Inner products of queries with the bits of rows; the higher, the nearer.

    They are sums of table entries, one per byte of a code, so rows with equal codes have exactly equal scores.

    Args:
        queries: continuous codes, float (q, k).
        packed: codes of the rows, uint8 (n, ceil(k / 8)).

    Returns:
        float32 (q, n).

    Raises:
        InputError: the codes do not have the queries' k bits.

    Example:
        >>> rows = np.array([[0b10100000], [0b11000000]], np.uint8)  # +1 -1 +1 and +1 +1 -1
        >>> asymmetric_scores(np.array([[0.5, -0.25, 1.0]]), rows).tolist()
        [[1.75, -0.75]]
    """
    queries, packed = np.asarray(queries, np.float32), np.asarray(packed, np.uint8)
    if queries.ndim != 2 or packed.ndim != 2 or packed.shape[1] != -(-queries.shape[1] // 8):
        raise InputError(
            f"asymmetric_scores: queries {queries.shape}, packed codes {packed.shape}; expected (q, k) and "
            "(n, ceil(k / 8))"
        )
    parts = np.pad(queries, ((0, 0), (0, -queries.shape[1] % 8))).reshape(len(queries), -1, 8)
    tables = parts @ _SIGNS_OF_BYTES.T  # (q, bytes, 256)
    scores = np.zeros((len(queries), len(packed)), np.float32)
    for place in range(packed.shape[1]):
        scores += tables[:, place, packed[:, place]]
    return scores
