"""Mean average precision by Hamming ranking."""

from typing import Any

import numba
import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation.inputs import code_words, label_words


def average_precision(
    query_codes: Any, database_codes: Any, query_labels: Any, database_labels: Any, *, k_bits: int | None = None
) -> np.ndarray:
    """Average precision of each query over the whole database, ranked by Hamming distance.

    A row is relevant where it shares at least one label with the query. Rows at the same distance are ranked in
    database order. AP is the mean, over the relevant rows, of the precision at their ranks; 0 where none is relevant.

    Args:
        query_codes, database_codes: packed uint8 (n, ceil(k / 8)), or -1/+1 or 0/1 (n, k); NumPy or torch.
        query_labels, database_labels: 0/1 (n, c).
        k_bits: needed for packed codes whose last byte is not full.

    Returns:
        float64 (q,), in [0, 1].

    Raises:
        InputError: shapes or values are not as described; the message names the argument.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 0], [0, 1], [1, 0]])
        >>> average_precision(codes[:1], codes, labels[:1], labels).round(3).tolist()
        [0.833]
    """
    queries, bits = code_words(query_codes, k_bits, "query_codes")
    database, database_bits = code_words(database_codes, k_bits, "database_codes")
    if bits != database_bits:
        raise InputError(f"query_codes have {bits} bits, database_codes {database_bits}; expected one length")
    query_words, columns = label_words(query_labels, len(queries), "query_labels")
    database_words, database_columns = label_words(database_labels, len(database), "database_labels")
    if columns != database_columns:
        raise InputError(f"query_labels have {columns} labels, database_labels {database_columns}; expected as many")
    return _average_precision(queries, database, query_words, database_words, bits)


def mean_average_precision(
    query_codes: Any, database_codes: Any, query_labels: Any, database_labels: Any, *, k_bits: int | None = None
) -> float:
    """Mean of `average_precision` over the queries. Arguments and errors are the same."""
    precisions = average_precision(query_codes, database_codes, query_labels, database_labels, k_bits=k_bits)
    return float(precisions.mean())


@numba.njit(parallel=True, cache=True, nogil=True)
def _average_precision(queries, database, query_labels, database_labels, k_bits):  # pragma: no cover - compiled
    """A k-bit code has only k + 1 distances: ranks come from counting rows a distance, without sorting."""
    result = np.zeros(len(queries))
    for q in numba.prange(len(queries)):
        distances = np.empty(len(database), np.uint16)
        relevant = np.empty(len(database), np.bool_)
        rows_at = np.zeros(k_bits + 2, np.int64)  # rows at distance - 1, then rows nearer than the distance
        relevant_at = np.zeros(k_bits + 2, np.int64)
        for row in range(len(database)):
            distance = 0
            for word in range(database.shape[1]):
                distance += _popcount(queries[q, word] ^ database[row, word])
            shared = np.uint64(0)
            for word in range(database_labels.shape[1]):
                shared |= query_labels[q, word] & database_labels[row, word]
            distances[row] = distance
            relevant[row] = shared != 0
            rows_at[distance + 1] += 1
            relevant_at[distance + 1] += relevant[row]
        for distance in range(k_bits + 1):
            rows_at[distance + 1] += rows_at[distance]
            relevant_at[distance + 1] += relevant_at[distance]
        total = relevant_at[k_bits + 1]
        precision = 0.0
        for row in range(len(database)):
            distance = distances[row]
            rows_at[distance] += 1  # now this row's rank
            if relevant[row]:
                relevant_at[distance] += 1
                precision += relevant_at[distance] / rows_at[distance]
        if total:
            result[q] = precision / total
    return result


@numba.njit(inline="always")
def _popcount(word):  # pragma: no cover - compiled
    """Bits set in a uint64, by the classic sum of pairs, nibbles and bytes; LLVM makes one instruction of it."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
