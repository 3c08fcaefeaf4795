"""Whether a query's code depends on anything but the query: its partner, its labels, the rest of its batch.

A model that mixes an image with its own text, or with its labels, before it hashes it, as some released evaluations do,
knows at test time what a search does not. Its mAP is not comparable with that of a model that sees the query alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation.inputs import Array, as_numpy

# row numbers of queries, of their partners and of their labels, int64 (b,) each -> codes of the queries (b, ...)
Encode: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], Array]

NEAR_ZERO = 1e-5


@dataclass(frozen=True)
class LeakReport:
    """How many of the queries' codes changed, and with what.

    queries: how many were checked.
    repeated: changed though nothing was; above 0, the model is random, and the other numbers say nothing.
    partner, labels, batch: changed with their partners, their labels, or the other rows, the order and the size of
        their batch.
    near_zero: changed with the batch, but only in bits whose continuous value is within 1e-5 of zero: rounding, as a
        matrix product of another size sums in another order. They are not among `batch`.
    """

    queries: int
    repeated: int
    partner: int
    labels: int
    batch: int
    near_zero: int

    @property
    def passed(self) -> bool:
        """Whether the queries' codes depend on the queries alone."""
        return not (self.repeated or self.partner or self.labels or self.batch)

    def __str__(self) -> str:
        names = ("repeated", "partner", "labels", "batch")
        listing = ", ".join(f"{name} {getattr(self, name)}" for name in names)
        verdict = "no leak" if self.passed else "LEAK"
        return f"{verdict}: of {self.queries} codes changed with {listing} (by rounding {self.near_zero})"


def leak_check(encode: Encode, rows: Sequence[int] | np.ndarray, *, batch_size: int = 64, seed: int = 0) -> LeakReport:
    """Encode queries again with other partners, other labels and in other batches, and compare the codes' bytes.

    Partners and labels are exchanged in batches of the same queries in the same order, in which a query's arithmetic is
    the same, so that every changed byte counts. Batches are changed by shuffling the queries, and by halving the size.

    Args:
        encode: codes of one batch of queries. It is called with three arrays, int64 (b,): the rows that are encoded,
            the rows whose other modality they are presented with, and the rows whose labels they are presented with.
            It hands them to the model in whatever way its evaluation does. Continuous codes, float (b, k), let changes
            by rounding be told apart; their binary codes are `continuous >= 0`. Any other type is compared as it is.
        rows: of the queries, at least two, each once.
        batch_size: at least two.
        seed: of the shuffles.

    Raises:
        InputError: there are fewer than two rows, one is there twice, batches are of one, or codes of another length.

    Example:
        >>> import numpy as np
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 100, 16))
        >>> leak_check(lambda rows, partners, labels: images[rows], range(100)).passed
        True
        >>> fused = leak_check(lambda rows, partners, labels: images[rows] + texts[partners], range(100))
        >>> fused.passed, fused.partner, fused.labels
        (False, 100, 0)
    """
    rows = np.asarray(rows, np.int64)
    if rows.ndim != 1 or len(np.unique(rows)) < max(2, len(rows)):
        raise InputError(f"rows: {len(np.unique(rows))} of shape {rows.shape}; expected at least two, each once")
    if batch_size < 2:
        raise InputError(f"batch_size: {batch_size}; expected at least 2")
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(len(rows))
    others = np.empty_like(rows)
    others[cycle] = rows[np.roll(cycle, 1)]  # nobody keeps the own one

    def codes(partners: np.ndarray, labels: np.ndarray, order: np.ndarray | None = None, size: int = batch_size) -> Any:
        order = np.arange(len(rows)) if order is None else order
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        encoded = [_checked(encode(rows[batch], partners[batch], labels[batch]), len(batch)) for batch in batches]
        return np.concatenate(encoded)[np.argsort(order)]

    first = codes(rows, rows)
    changed = [
        _changed(first, codes(*presented)).any(axis=1) for presented in ((rows, rows), (others, rows), (rows, others))
    ]
    in_batches = [codes(rows, rows, rng.permutation(len(rows))), codes(rows, rows, None, max(1, batch_size // 2))]
    anywhere = np.zeros(len(rows), bool)
    clearly = np.zeros(len(rows), bool)
    for again in in_batches:
        bits = _changed(first, again)
        anywhere |= bits.any(axis=1)
        clearly |= (bits & ~_near_zero(first, again)).any(axis=1)
    counts = [int(found.sum()) for found in (*changed, clearly, anywhere & ~clearly)]
    return LeakReport(len(rows), *counts)


def _checked(codes: Array, expected: int) -> np.ndarray:
    values = as_numpy(codes)
    if values.ndim < 2 or len(values) != expected:
        raise InputError(f"encode: gave shape {values.shape} for {expected} rows; expected one code per row")
    return values.reshape(expected, -1)


def _is_continuous(codes: np.ndarray) -> bool:
    return codes.dtype.kind == "f"


def _changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which bits of continuous codes, or bytes of others, differ: bool (n, k)."""
    if _is_continuous(first):
        return (first >= 0) != (second >= 0)
    return first != second


def _near_zero(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which bits of continuous codes rounding may have changed, bool (n, k); none of others."""
    if not _is_continuous(first):
        return np.zeros(first.shape, bool)
    return np.maximum(abs(first), abs(second)) < NEAR_ZERO
