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


def asymmetric_scores(queries: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """Inner products of queries with the bits of rows; the higher, the nearer.

    Args:
        queries: continuous codes, float (q, k).
        packed: codes of the rows, uint8 (n, ceil(k / 8)). Their bits take 4 k n bytes for the moment.

    Returns:
        float32 (q, n).

    Raises:
        InputError: the codes do not have the queries' k bits.

    Example:
        >>> rows = np.array([[0b10100000], [0b11000000]], np.uint8)  # +1 -1 +1 and +1 +1 -1
        >>> asymmetric_scores(np.array([[0.5, -0.25, 1.0]]), rows).tolist()
        [[1.75, -0.75]]
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2:
        raise InputError(f"queries: shape {queries.shape}; expected continuous codes (q, k)")
    return queries @ as_signs(unpack(packed, queries.shape[1])).T
