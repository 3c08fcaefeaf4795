"""Codes and labels in the forms that people have, brought to the one form that the kernels read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.codes import as_words, pack

# labels of the queries (b, c) and of the database (n, c) -> gains (b, n), whole numbers >= 0
Relevance = Callable[[np.ndarray, np.ndarray], np.ndarray]

_LARGEST_GAIN = 1000  # 2 to this power is still a float
_BLOCK_BYTES = 64 << 20  # of gains that a caller's own relevance gives at once


@dataclass(frozen=True)
class Task:
    """Checked input of a metric. Words are uint64; those of the database are transposed, (words, n)."""

    queries: np.ndarray
    database: np.ndarray
    query_labels: np.ndarray
    labels: np.ndarray
    k_bits: int
    minimum: int
    relevance: Relevance | None
    raw_labels: tuple[np.ndarray, np.ndarray]

    @property
    def rows(self) -> int:
        """n, rows of the database."""
        return self.database.shape[1]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Parts of the queries, with the caller's own gains, uint16 (b, n), or (0, 0) where labels decide."""
        if self.relevance is None:
            yield slice(None), np.zeros((0, 0), np.uint16)
            return
        size = max(1, _BLOCK_BYTES // (2 * self.rows))
        query_labels, labels = self.raw_labels
        for start in range(0, len(self.queries), size):
            part = slice(start, start + size)
            gains = np.asarray(self.relevance(query_labels[part], labels))
            expected = (len(query_labels[part]), self.rows)
            if gains.shape != expected or not (gains >= 0).all() or (gains > _LARGEST_GAIN).any():
                raise InputError(
                    f"relevance: gave shape {gains.shape}; expected {expected}, whole numbers 0 to {_LARGEST_GAIN}"
                )
            yield part, gains.astype(np.uint16)

    @property
    def most(self) -> int:
        """An upper bound of the gains."""
        return _LARGEST_GAIN if self.relevance else int(self.raw_labels[0].sum(axis=1).max())


def prepare(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    k_bits: int | None,
    min_shared: int,
    relevance: Relevance | None,
) -> Task:
    """Check all input of a metric.

    Raises:
        InputError: shapes or values are not as they must be; the message names the argument.
    """
    queries, bits = code_words(query_codes, k_bits, "query_codes")
    database, database_bits = code_words(database_codes, k_bits, "database_codes")
    if bits != database_bits:
        raise InputError(f"query_codes have {bits} bits, database_codes {database_bits}; expected one length")
    if min_shared < 1:
        raise InputError(f"min_shared: {min_shared}; expected at least 1")
    labels = [as_numpy(query_labels), as_numpy(database_labels)]
    for values, rows, name in zip(
        labels, (len(queries), len(database)), ("query_labels", "database_labels"), strict=True
    ):
        if values.ndim != 2 or len(values) != rows:
            raise InputError(f"{name}: shape {values.shape}; expected a matrix with {rows} rows, as many as codes")
        if not ((values == 0) | (values == 1)).all():
            raise InputError(f"{name}: holds values other than 0 and 1")
    columns = [values.shape[1] for values in labels]
    if columns[0] != columns[1]:
        raise InputError(f"query_labels have {columns[0]} labels, database_labels {columns[1]}; expected as many")
    words = [as_words(pack(values)) for values in labels]
    minimum = 1 if relevance else min_shared
    return Task(
        queries,
        np.ascontiguousarray(database.T),
        words[0],
        np.ascontiguousarray(words[1].T),
        bits,
        minimum,
        relevance,
        (labels[0], labels[1]),
    )


def code_words(codes: Any, k_bits: int | None, name: str) -> tuple[np.ndarray, int]:
    """Bring codes to words of 64 bits.

    Args:
        codes: uint8 (n, bytes) is packed; any other number type is (n, k) of -1/+1 or 0/1. NumPy or torch.
        k_bits: number of bits; needed only for packed codes whose last byte is not full.
        name: of the argument, for messages.

    Returns:
        uint64 (n, words) and the number of bits.

    Raises:
        InputError: another shape, other values, no rows, or `k_bits` that the codes do not hold.
    """
    codes = as_numpy(codes)
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InputError(f"{name}: shape {codes.shape}; expected a matrix, a row a code")
    if len(codes) == 0:
        raise InputError(f"{name}: has no rows")
    if codes.dtype != np.uint8:
        bits = codes > 0
        if not ((bits & (codes == 1)) | (~bits & ((codes == -1) | (codes == 0)))).all():
            raise InputError(f"{name}: holds values other than -1/+1 or 0/1; take the sign first")
        k_bits = k_bits or codes.shape[1]
        if k_bits != codes.shape[1]:
            raise InputError(f"{name}: has {codes.shape[1]} columns, but k_bits is {k_bits}")
        return as_words(pack(bits)), k_bits
    k_bits = k_bits or 8 * codes.shape[1]
    if -(-k_bits // 8) != codes.shape[1]:
        raise InputError(f"{name}: {codes.shape[1]} bytes a row do not hold k_bits = {k_bits}")
    if k_bits % 8 and (codes[:, -1] & (0xFF >> k_bits % 8)).any():
        raise InputError(f"{name}: bits after the first {k_bits} are set; expected zero padding, or another k_bits")
    return as_words(codes), k_bits


def as_numpy(values: Any) -> np.ndarray:
    """A NumPy array of what may be a torch tensor on any device."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
