"""Precision and recall within a Hamming radius: what a lookup in hash tables reaches."""

from typing import NamedTuple

import numpy as np

from math_hash.evaluation.inputs import Array, Relevance
from math_hash.evaluation.ranking_metrics import ranking_metrics


class RadiusCurves(NamedTuple):
    """Precision, recall and their harmonic mean within Hamming radius 0 ... k, each float64 (q, k + 1), in [0, 1]."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def radius_curves(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    k_bits: int | None = None,
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> RadiusCurves:
    """Precision, recall and F1 within each Hamming radius, for each query.

    Mean precision against mean recall over the radii is the precision-recall curve of this field. The order of ties
    has no influence. The arguments and the errors are those of `average_precision`; the values are those of
    `ranking_metrics`, which computes all metrics in the same pass.

    Returns:
        Precision, 0 where no row lies within the radius; recall, 0 for a query without relevant rows; and F1. With
        `no_relevant="skip"`, such a query is NaN in all three.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 0], [0, 1], [1, 0]])
        >>> precision, recall, f1 = radius_curves(codes[:1], codes, labels[:1], labels)
        >>> precision.round(3).tolist(), recall.tolist()
        ([[1.0, 0.5, 0.667]], [[0.5, 0.5, 1.0]])
    """
    metrics = ranking_metrics(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        k_bits=k_bits,
        at=(1,),
        no_relevant=no_relevant,
        min_shared=min_shared,
        relevance=relevance,
    )
    return RadiusCurves(metrics.radius_precision, metrics.radius_recall, metrics.radius_f1)
