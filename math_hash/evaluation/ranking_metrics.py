"""Metrics of Hamming ranking, one function each, and all of them in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation import kernels, metric_kernels
from math_hash.evaluation.inputs import Relevance, Task, prepare

TIES = {
    "index": kernels.INDEX,
    "optimistic": kernels.OPTIMISTIC,
    "pessimistic": kernels.PESSIMISTIC,
    "expected": kernels.EXPECTED,
}
NORMALIZERS = {"lineage": kernels.LINEAGE, "hits": kernels.HITS, "min": kernels.MIN}
CUTS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)


def average_precision(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    k_bits: int | None = None,
    top_k: int | None = None,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> np.ndarray:
    """Average precision of each query, the database ranked by Hamming distance.

    AP is the mean, over relevant rows, of the precision at their ranks. With `top_k`, three meanings are in use:
    "lineage": the mean over the first min(top_k, R) relevant rows wherever they rank (DCMH, DCHMT, MITH, MATH code);
    "hits": the sum over the relevant rows among the first top_k, divided by their number; "min": the same sum divided
    by min(R, top_k). Without `top_k` all three are one.

    Args:
        query_codes, database_codes: packed uint8 (n, ceil(k / 8)), or -1/+1 or 0/1 (n, k); NumPy or torch.
        query_labels, database_labels: 0/1 (n, c).
        k_bits: needed for packed codes whose last byte is not full.
        top_k: cut-off; None ranks all of the database.
        ties: rows at one distance in database order ("index"), the exact mean over all orders within ties
            ("expected"), relevant rows first ("optimistic") or last ("pessimistic").
        no_relevant: a query without relevant rows counts 0 ("zero", as the releases do), is NaN ("skip"), or raises.
        min_shared: a row is relevant where it shares at least so many labels.
        relevance: own rule, (query_labels, database_labels) -> gains (b, n), relevant where above 0; called on blocks.

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
    task = prepare(query_codes, database_codes, query_labels, database_labels, k_bits, min_shared, relevance)
    top, rules = _cut(top_k, task.rows), _rules(normalizer, ties, no_relevant)
    if getattr(database_codes, "is_cuda", False) and ties != "expected" and relevance is None:
        precision, relevant = _on_device(task, database_codes.device, top, normalizer, ties)
        return _without_relevant(precision, relevant, no_relevant)
    options = (task.k_bits, task.minimum, top, *rules)
    parts = [
        kernels.average_precision(
            task.queries[part], task.database, task.query_labels[part], task.labels, gains, *options
        )
        for part, gains in task.blocks()
    ]
    precision, relevant = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _without_relevant(precision, relevant, no_relevant)


def mean_average_precision(
    query_codes: Any, database_codes: Any, query_labels: Any, database_labels: Any, **options: Any
) -> float:
    """Mean of `average_precision` over the queries; arguments, options and errors are the same."""
    precision = average_precision(query_codes, database_codes, query_labels, database_labels, **options)
    return float(np.nanmean(precision))


@dataclass(frozen=True)
class RankingMetrics:
    """Every metric of q queries. Arrays hold a row a query; `mean` averages them.

    average_precision, average_precision_at_k (q,): over all rows, and with `top_k` and the normalizer.
    weighted_average_precision (q,): mean of ACG at the ranks of the relevant rows.
    precision, recall, ndcg, acg (q, c): at the cut-offs `at` (c,). ACG is the mean number of shared labels among the
        first N rows; NDCG has gains 2^g - 1 and discounts log2(1 + rank) (Jarvelin and Kekalainen 2002).
    rows_within, relevant_within (q, k + 1): rows and relevant rows within Hamming radius 0 ... k.
    relevant (q,): relevant rows.
    """

    top_k: int
    at: np.ndarray
    average_precision: np.ndarray
    average_precision_at_k: np.ndarray
    weighted_average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    ndcg: np.ndarray
    acg: np.ndarray
    rows_within: np.ndarray
    relevant_within: np.ndarray
    relevant: np.ndarray

    @property
    def without_relevant(self) -> int:
        """Queries that have no relevant row."""
        return int((self.relevant == 0).sum())

    @property
    def radius_precision(self) -> np.ndarray:
        """Precision within each radius, (q, k + 1); 0 where nothing lies within it."""
        return _ratio(self.relevant_within, self.rows_within)

    @property
    def radius_recall(self) -> np.ndarray:
        """Recall within each radius, (q, k + 1); 0 for a query without relevant rows."""
        return _ratio(self.relevant_within, self.relevant[:, None])

    @property
    def radius_f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall within each radius, (q, k + 1)."""
        return _ratio(2.0 * self.relevant_within, self.rows_within + self.relevant[:, None])

    def mean(self) -> dict[str, Any]:
        """Means over the queries, as plain numbers and lists: what `results.json` holds.

        The precision-recall curve is the mean precision and the mean recall at each radius, as its points.
        """
        return {
            "mAP": float(np.nanmean(self.average_precision)),
            f"mAP@{self.top_k}": float(np.nanmean(self.average_precision_at_k)),
            "weighted_mAP": float(np.nanmean(self.weighted_average_precision)),
            "precision_within_radius_2": float(
                np.nanmean(self.radius_precision[:, min(2, self.radius_f1.shape[1] - 1)])
            ),
            "at": self.at.tolist(),
            **{
                name: np.nanmean(getattr(self, name), axis=0).tolist()
                for name in ("precision", "recall", "ndcg", "acg")
            },
            **{
                name: np.nanmean(getattr(self, name), axis=0).tolist()
                for name in ("radius_precision", "radius_recall", "radius_f1")
            },
            "queries_without_relevant_rows": self.without_relevant,
        }


def ranking_metrics(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    k_bits: int | None = None,
    top_k: int = 50,
    at: Sequence[int] = CUTS,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> RankingMetrics:
    """All metrics in one pass over the database a query.

    Args:
        at: cut-off ranks N of precision, recall, NDCG and ACG; ranks beyond the database count as its last one.

    The other arguments and the errors are those of `average_precision`. Graded relevance is the number of shared
    labels, whatever `min_shared`.
    """
    task = prepare(query_codes, database_codes, query_labels, database_labels, k_bits, min_shared, relevance)
    at = np.unique(np.asarray(at, np.int64))
    if len(at) == 0 or at[0] < 1:
        raise InputError(f"at: {at.tolist()}; expected cut-off ranks of at least 1")
    top = _cut(top_k, task.rows)
    normal, tie = _rules(normalizer, ties, no_relevant)
    discount = 1 / np.log2(np.arange(2, min(at[-1], task.rows) + 2))
    parts = [
        metric_kernels.all_metrics(
            task.queries[part], task.database, task.query_labels[part], task.labels, gains,
            task.k_bits, task.minimum, top, normal, tie, task.most, at, discount,
        )
        for part, gains in task.blocks()
    ]  # fmt: skip
    precision, at_cut, weighted, within, relevant = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = _without_relevant(np.zeros(len(relevant)), relevant, no_relevant)  # NaN where a query is to be skipped
    return RankingMetrics(
        top,
        at,
        precision[:, 0] + keep,
        precision[:, 1] + keep,
        weighted + keep,
        *(at_cut[:, place] + keep[:, None] for place in range(4)),
        within[:, 0],
        within[:, 1],
        relevant,
    )


def _on_device(task: Task, device: Any, top: int, normalizer: str, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """The same numbers by PyTorch, for codes that lie on a GPU."""
    import torch

    from math_hash.evaluation.on_device import average_precision

    words = (task.queries, np.ascontiguousarray(task.database.T))
    codes = [torch.from_numpy(value.view(np.uint8)).to(device) for value in words]
    labels = [torch.from_numpy(np.ascontiguousarray(value, np.float32)).to(device) for value in task.raw_labels]
    found = average_precision(*codes, *labels, minimum=task.minimum, top=top, normalizer=normalizer, ties=ties)
    precision, relevant = (value.cpu().numpy() for value in found)
    return precision, relevant


def _rules(normalizer: str, ties: str, no_relevant: str) -> tuple[int, int]:
    for name, value, known in (
        ("normalizer", normalizer, NORMALIZERS),
        ("ties", ties, TIES),
        ("no_relevant", no_relevant, ("zero", "skip", "error")),
    ):
        if value not in known:
            raise InputError(f"{name}: {value!r} is unknown; choose from {', '.join(known)}")
    return NORMALIZERS[normalizer], TIES[ties]


def _cut(top_k: int | None, rows: int) -> int:
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k: {top_k}; expected at least 1, or None for all")
    return rows if top_k is None else min(top_k, rows)


def _without_relevant(values: np.ndarray, relevant: np.ndarray, rule: str) -> np.ndarray:
    empty = relevant == 0
    if rule == "zero" or not empty.any():
        return values
    if rule == "error" or empty.all():
        raise InputError(
            f"query_labels: {empty.sum()} of {len(empty)} queries have no relevant row, first row {empty.argmax()}"
        )
    return np.where(empty, np.nan, values)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)
