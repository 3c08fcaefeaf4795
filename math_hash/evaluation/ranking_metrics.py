"""Every metric of Hamming ranking in one pass, for reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from math_hash.evaluation import metric_kernels
from math_hash.evaluation.inputs import Array, Relevance, prepare
from math_hash.evaluation.rules import CUTS, NORMALIZERS, TIES, cut_off, cut_offs, require_rules, without_relevant


@dataclass(frozen=True)
class RankingMetrics:
    """Every metric of q queries. Arrays hold one row per query; `mean` averages them.

    average_precision, average_precision_at_k (q,): over all rows, and with `top_k` and the normalizer.
    weighted_average_precision (q,): mean of ACG at the ranks of the relevant rows.
    precision, recall, ndcg, acg (q, c): at the cut-offs `at` (c,). ACG is the mean number of shared labels among the
        first N rows; NDCG has gains 2^g - 1 and discounts log2(1 + rank) (Jarvelin and Kekalainen 2002).
    rows_within, relevant_within (q, k + 1): rows and relevant rows within Hamming radius 0 ... k.
    relevant (q,): relevant rows in the whole database.

    A query that `no_relevant="skip"` leaves out is NaN in every metric, those within a radius included.
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
        return self._ratio(self.relevant_within, self.rows_within)

    @property
    def radius_recall(self) -> np.ndarray:
        """Recall within each radius, (q, k + 1); 0 for a query without relevant rows."""
        return self._ratio(self.relevant_within, self.relevant[:, None])

    @property
    def radius_f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall within each radius, (q, k + 1)."""
        return self._ratio(2.0 * self.relevant_within, self.rows_within + self.relevant[:, None])

    def _ratio(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """part / whole, (q, k + 1): 0 where whole is 0, NaN for a query that is left out."""
        ratio = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
        return np.where(np.isnan(self.average_precision)[:, None], np.nan, ratio)

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
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    k_bits: int | None = None,
    top_k: int = 50,
    at: Sequence[int] | np.ndarray = CUTS,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> RankingMetrics:
    """All metrics in one pass over the database for each query.

    Args:
        at: cut-off ranks N of precision, recall, NDCG and ACG; ranks beyond the database count as its last one.

    The other arguments and the errors are those of `average_precision`. Graded relevance is the number of shared
    labels, whatever `min_shared`.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 0], [0, 1], [1, 0]])
        >>> metrics = ranking_metrics(codes, codes, labels, labels, at=[1, 2])
        >>> metrics.precision.mean(axis=0).tolist()
        [1.0, 0.5]
    """
    require_rules(normalizer, ties, no_relevant)
    task = prepare(query_codes, database_codes, query_labels, database_labels, k_bits, min_shared, relevance)
    cuts, top = cut_offs(at), cut_off(top_k, task.rows)
    discount = 1 / np.log2(np.arange(2, min(cuts[-1], task.rows) + 2))
    blocks = [
        metric_kernels.all_metrics(
            task.queries[block], task.database, task.query_labels[block], task.labels, gains,
            task.k_bits, task.minimum, top, NORMALIZERS[normalizer], TIES[ties], task.most, cuts, discount,
        )
        for block, gains in task.blocks()
    ]  # fmt: skip
    columns = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    return _from_columns(columns, top, cuts, no_relevant)


def _from_columns(columns: list[np.ndarray], top: int, cuts: np.ndarray, no_relevant: str) -> RankingMetrics:
    """What `all_metrics` returned, as one object, with NaN for the queries that are skipped."""
    average, at_cut, weighted, within, relevant = columns
    skipped = without_relevant(np.zeros(len(relevant)), relevant, no_relevant)  # NaN where a query is skipped, else 0
    at_cut = at_cut + skipped[:, None, None]
    return RankingMetrics(
        top_k=top,
        at=cuts,
        average_precision=average[:, 0] + skipped,
        average_precision_at_k=average[:, 1] + skipped,
        weighted_average_precision=weighted + skipped,
        precision=at_cut[:, 0],
        recall=at_cut[:, 1],
        ndcg=at_cut[:, 2],
        acg=at_cut[:, 3],
        rows_within=within[:, 0],
        relevant_within=within[:, 1],
        relevant=relevant,
    )
