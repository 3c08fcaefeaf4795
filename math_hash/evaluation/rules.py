"""Rules in which published numbers differ: ties, the normalizer of AP@k, queries without relevant rows, cut-offs.

`ties` orders rows at one distance: "index" keeps database order, "expected" is the exact mean over all orders within
ties, "optimistic" puts relevant rows first, "pessimistic" last.

`normalizer` says what AP with a cut-off `top_k` is, for a query with R relevant rows. "lineage": the mean over the
first min(top_k, R) relevant rows wherever they rank (code of DCMH, DCHMT, MITH, MATH). "hits": the sum over the
relevant rows among the first top_k, divided by their number. "min": the same sum divided by min(R, top_k). Without
`top_k` all three are one.

`no_relevant` says what a query without relevant rows counts: 0 ("zero", as in the releases), NaN ("skip", which means
over queries leave out), or an error ("error").
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation import kernels
from math_hash.evaluation.inputs import Relevance

TIES = {
    "index": kernels.INDEX,
    "optimistic": kernels.OPTIMISTIC,
    "pessimistic": kernels.PESSIMISTIC,
    "expected": kernels.EXPECTED,
}
NORMALIZERS = {"lineage": kernels.LINEAGE, "hits": kernels.HITS, "min": kernels.MIN}
NO_RELEVANT = ("zero", "skip", "error")
CUTS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)


class Rules(TypedDict, total=False):
    """The keywords that all metrics with cut-off ranks share; their meaning is that of `average_precision`."""

    k_bits: int | None
    ties: str
    no_relevant: str
    min_shared: int
    relevance: Relevance | None


def require_rules(normalizer: str, ties: str, no_relevant: str) -> None:
    """Check the names of rules.

    Raises:
        InputError: one is unknown.
    """
    for name, value, known in (
        ("normalizer", normalizer, NORMALIZERS),
        ("ties", ties, TIES),
        ("no_relevant", no_relevant, NO_RELEVANT),
    ):
        if value not in known:
            raise InputError(f"{name}: {value!r} is unknown; choose from {', '.join(known)}")


def cut_off(top_k: int | None, rows: int) -> int:
    """The rank at which a ranking of `rows` rows ends.

    Raises:
        InputError: `top_k` is below 1.
    """
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k: {top_k}; expected at least 1, or None for all")
    return rows if top_k is None else min(top_k, rows)


def cut_offs(at: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut-off ranks, int64, rising, each once.

    Raises:
        InputError: there is none, or one is below 1.
    """
    cuts = np.unique(np.asarray(at, np.int64))
    if len(cuts) == 0 or cuts[0] < 1:
        raise InputError(f"at: {cuts.tolist()}; expected cut-off ranks of at least 1")
    return cuts


def columns_at(at: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Cut-off ranks as `cut_offs` gives them, and the column of each rank of `at`, in its shape.

    Raises:
        InputError: as `cut_offs`.
    """
    cuts = cut_offs(np.atleast_1d(at))
    return cuts, np.searchsorted(cuts, np.asarray(at, np.int64))


def without_relevant(values: np.ndarray, relevant: np.ndarray, no_relevant: str) -> np.ndarray:
    """Apply `no_relevant` to a metric's values (q,), given the relevant rows of each query, (q,).

    Raises:
        InputError: the rule is "error" and a query has no relevant row, or no query is left.
    """
    empty = relevant == 0
    if no_relevant == "zero" or not empty.any():
        return values
    if no_relevant == "error" or empty.all():
        raise InputError(
            f"query_labels: {empty.sum()} of {len(empty)} queries have no relevant row, first row {empty.argmax()}"
        )
    return np.where(empty, np.nan, values)
