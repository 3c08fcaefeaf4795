"""Float vectors of length 1 as rows of int8: a quarter of float32's bytes, for rescoring."""

import numpy as np


def as_int8(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float (n, d), as int8 (n, d): each row times 127 over its largest absolute value, rounded.

    The scale is symmetric and its own for every row. It need not be stored: a vector of length 1 is its row over the
    row's length, which is what the cosine needs anyway. A value is off by at most half a step, max|v| / 254.

    Example:
        >>> as_int8(np.array([[0.6, -0.8], [0.0, 1.0]])).tolist()
        [[95, -127], [0, 127]]
    """
    vectors = np.asarray(vectors, np.float32)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-12)
    return np.rint(vectors * (127 / largest)).astype(np.int8)
