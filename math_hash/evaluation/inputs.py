"""Codes and labels in the forms that people have, checked and brought to the one form that the kernels read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.codes import MOST_BITS, as_planes, as_words, pack

if TYPE_CHECKING:  # evaluating NumPy arrays imports no PyTorch
    import torch
    from numpy.typing import ArrayLike

Array: TypeAlias = "ArrayLike | torch.Tensor"

# labels of the queries (b, c) and of the database (n, c) -> gains (b, n), whole numbers >= 0
Relevance: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

_LARGEST_GAIN = 1000  # 2 to this power is still a float
_BLOCK_BYTES = 64 << 20  # of the gains that a caller's own relevance computes in one call


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
        """n, the rows of the database."""
        return self.database.shape[1]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of queries, each with the caller's own gains, uint16 (b, n), or (0, 0) where labels decide."""
        if self.relevance is None:
            yield slice(None), np.zeros((0, 0), np.uint16)
            return
        yield from gain_blocks(self.relevance, *self.raw_labels, max(1, _BLOCK_BYTES // (2 * self.rows)))

    @property
    def most(self) -> int:
        """An upper bound of the gains."""
        return _LARGEST_GAIN if self.relevance else int(self.raw_labels[0].sum(axis=1).max())


def gain_blocks(
    relevance: Relevance, query_labels: np.ndarray, labels: np.ndarray, size: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Call a caller's own relevance on blocks of `size` queries.

    Yields:
        The block and its gains, uint16 (b, n).

    Raises:
        InputError: the gains have another shape or other values.
    """
    for start in range(0, len(query_labels), size):
        block = slice(start, start + size)
        gains = np.asarray(relevance(query_labels[block], labels))
        expected = (len(query_labels[block]), len(labels))
        if gains.shape != expected or not ((gains >= 0) & (gains <= _LARGEST_GAIN) & (gains % 1 == 0)).all():
            raise InputError(
                f"relevance: gave shape {gains.shape}; expected {expected}, whole numbers 0 to {_LARGEST_GAIN}"
            )
        yield block, gains.astype(np.uint16)


def prepare(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    k_bits: int | None,
    min_shared: int,
    relevance: Relevance | None,
) -> Task:
    """Check all input of a metric.

    Raises:
        InputError: shapes or values are not as they must be; the message names the argument.
    """
    queries, bits = packed_codes(query_codes, k_bits, "query_codes")
    database, database_bits = packed_codes(database_codes, k_bits, "database_codes")
    labels = as_numpy(query_labels), as_numpy(database_labels)
    require_matching(bits, database_bits, (len(queries), len(database)), labels, min_shared)
    words = [as_words(pack(values)) for values in labels]
    return Task(
        as_words(queries),
        as_planes(database),
        words[0],
        np.ascontiguousarray(words[1].T),
        bits,
        1 if relevance else min_shared,
        relevance,
        labels,
    )


def require_matching(
    bits: int, database_bits: int, rows: tuple[int, int], labels: tuple[Any, Any], min_shared: int
) -> None:
    """Check codes and labels of queries and database against each other.

    Args:
        bits, database_bits: lengths of the codes.
        rows: numbers of the codes of queries and database.
        labels: of queries and database, both NumPy arrays or torch tensors.

    Raises:
        InputError: lengths differ, or labels are not matrices of 0/1 with one row per code and the same columns.
    """
    if bits != database_bits:
        raise InputError(f"query_codes have {bits} bits, database_codes {database_bits}; expected one length")
    if min_shared < 1:
        raise InputError(f"min_shared: {min_shared}; expected at least 1")
    for values, expected, name in zip(labels, rows, ("query_labels", "database_labels"), strict=True):
        if values.ndim != 2 or len(values) != expected:
            raise InputError(
                f"{name}: shape {tuple(values.shape)}; expected a matrix with {expected} rows, as many as codes"
            )
        if not ((values == 0) | (values == 1)).all():
            raise InputError(f"{name}: holds values other than 0 and 1")
    columns = [values.shape[1] for values in labels]
    if columns[0] != columns[1]:
        raise InputError(f"query_labels have {columns[0]} labels, database_labels {columns[1]}; expected as many")


def packed_codes(codes: Array, k_bits: int | None, name: str) -> tuple[np.ndarray, int]:
    """Bring codes to packed bytes.

    Args:
        codes: uint8 (n, bytes) is packed; any other number type is (n, k) of -1/+1 or 0/1. NumPy or torch.
        k_bits: number of bits; needed only for packed codes whose last byte is not full.
        name: of the argument, for messages.

    Returns:
        uint8 (n, ceil(k / 8)) and the number of bits.

    Raises:
        InputError: another shape, other values, no rows, or `k_bits` that the codes do not hold.
    """
    values = as_numpy(codes)
    is_packed = values.dtype == np.uint8
    bits = number_of_bits(values, is_packed, k_bits, name)
    return values if is_packed else pack(values > 0), bits


def number_of_bits(codes: Any, is_packed: bool, k_bits: int | None, name: str) -> int:
    """Check codes, a NumPy array or a torch tensor on any device, and tell how many bits each has.

    Raises:
        InputError: as `packed_codes`.
    """
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InputError(f"{name}: shape {tuple(codes.shape)}; expected a matrix, one row per code")
    if len(codes) == 0:
        raise InputError(f"{name}: has no rows")
    columns = codes.shape[1]
    if (bits := k_bits or columns * (8 if is_packed else 1)) > MOST_BITS:
        raise InputError(f"{name}: codes of {bits:,} bits; at most {MOST_BITS:,} are compared")
    if not is_packed:
        below = -1 if (codes == -1).any() else 0
        if not ((codes == 1) | (codes == below)).all():
            raise InputError(
                f"{name}: holds values other than -1/+1 or 0/1; of continuous codes and signs give `codes >= 0`"
            )
        if k_bits and k_bits != columns:
            raise InputError(f"{name}: has {columns} columns, but k_bits is {k_bits}")
        return columns
    k_bits = k_bits or 8 * columns
    if -(-k_bits // 8) != columns:
        raise InputError(f"{name}: {columns} bytes per row do not hold k_bits = {k_bits}")
    if k_bits % 8 and (codes[:, -1] & (0xFF >> k_bits % 8)).any():
        raise InputError(f"{name}: bits after the first {k_bits} are set; expected zero padding, or another k_bits")
    return k_bits


def lies_on_accelerator(codes: Array) -> bool:
    """Whether codes are a torch tensor on a device that ranks faster than copies to the CPU.

    Apple's "mps" is not one of them: it has no float64.
    """
    return getattr(getattr(codes, "device", None), "type", "cpu") not in ("cpu", "mps")


def as_numpy(values: Array) -> np.ndarray:
    """A NumPy array of what may be a torch tensor on any device."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
