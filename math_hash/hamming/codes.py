"""Binary codes: from continuous values to bits, packed bytes, and Hamming distances.

Continuous codes are floats in (-1, 1). A bit is 1 where the continuous value is >= 0, so zero counts as +1 and a code
never holds a third symbol. Packed codes are rows of `numpy.packbits`: uint8 (n, ceil(k / 8)), the first bit the most
significant, padding bits zero.
"""

import numpy as np

from math_hash.errors import InputError


def binarize(continuous: np.ndarray) -> np.ndarray:
    """Turn continuous codes, float (n, k), into bits, bool (n, k): True where the value is >= 0.

    Raises:
        InputError: a value is NaN; the message names its row.

    Example:
        >>> binarize(np.array([[0.3, -0.7, 0.0]])).tolist()
        [[True, False, True]]
    """
    continuous = np.asarray(continuous)
    if np.isnan(continuous).any():
        row = int(np.argwhere(np.isnan(continuous))[0][0])
        raise InputError(f"codes: row {row} holds NaN; expected numbers in (-1, 1)")
    return continuous >= 0


def pack(bits: np.ndarray) -> np.ndarray:
    """Pack bits (n, k), bool or 0/1, into uint8 (n, ceil(k / 8)).

    Example:
        >>> pack(np.array([[1, 0, 1]])).tolist()  # 0b10100000
        [[160]]
    """
    return np.packbits(np.asarray(bits, dtype=bool), axis=1)


def unpack(packed: np.ndarray, k_bits: int) -> np.ndarray:
    """Unpack uint8 (n, ceil(k / 8)) into bits, bool (n, k_bits).

    Raises:
        InputError: a row does not have ceil(k_bits / 8) bytes.

    Example:
        >>> unpack(np.array([[160]], np.uint8), k_bits=3).tolist()
        [[True, False, True]]
    """
    packed = np.asarray(packed, dtype=np.uint8)
    if packed.ndim != 2 or packed.shape[1] != -(-k_bits // 8):
        raise InputError(
            f"codes: packed shape {packed.shape} does not hold {k_bits} bits; expected (n, {-(-k_bits // 8)})"
        )
    return np.unpackbits(packed, axis=1, count=k_bits).astype(bool)


def as_signs(bits: np.ndarray) -> np.ndarray:
    """Bits (n, k), bool or 0/1, as float32 -1/+1, the form of the releases' `.mat` exports.

    Example:
        >>> as_signs(np.array([[True, False]])).tolist()
        [[1.0, -1.0]]
    """
    return np.where(bits, np.float32(1), np.float32(-1))


def as_words(packed: np.ndarray) -> np.ndarray:
    """View packed codes, uint8 (n, bytes), as uint64 (n, ceil(bytes / 8)), zero padded: what distance kernels read.

    Distances are unchanged, since the padding is zero in every row.

    Example:
        >>> as_words(np.ones((5, 9), np.uint8)).shape
        (5, 2)
    """
    packed = np.ascontiguousarray(packed, dtype=np.uint8)
    rows, width = packed.shape
    if width % 8:
        padded = np.zeros((rows, width + -width % 8), np.uint8)
        padded[:, :width] = packed
        packed = padded
    return packed.view(np.uint64)


def as_planes(packed: np.ndarray) -> np.ndarray:
    """Packed codes, uint8 (n, bytes), in the layout that `scan` reads: uint64 (words, n).

    Example:
        >>> as_planes(np.ones((5, 9), np.uint8)).shape
        (2, 5)
    """
    return np.ascontiguousarray(as_words(packed).T)


def hamming_distance(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Hamming distances between packed codes, uint8 (q, bytes) and (n, bytes): int64 (q, n).

    Plain and memory-hungry, for small inputs; `math_hash.hamming.scan` searches large ones.

    Example:
        >>> codes = pack(np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0]]))
        >>> hamming_distance(codes[:1], codes).tolist()
        [[0, 1, 3]]
    """
    differing = np.asarray(query)[:, None, :] ^ np.asarray(database)[None, :, :]
    return np.bitwise_count(differing).sum(axis=2, dtype=np.int64)
