"""Metrics on codes and labels. Knows no model."""

from math_hash.evaluation.chance_level import floor_warning, normalized_score, random_floor
from math_hash.evaluation.ranking_metrics import RankingMetrics, average_precision, mean_average_precision, ranking_metrics
from math_hash.evaluation.significance import Difference, mean_and_deviation, paired_bootstrap

__all__ = [
    "Difference",
    "RankingMetrics",
    "average_precision",
    "floor_warning",
    "mean_and_deviation",
    "mean_average_precision",
    "normalized_score",
    "paired_bootstrap",
    "random_floor",
    "ranking_metrics",
]
