"""Metrics on codes and labels. Knows no model."""

from math_hash.evaluation.acg import acg
from math_hash.evaluation.average_precision import average_precision
from math_hash.evaluation.chance_level import chance_level, chance_level_warning, normalized_score
from math_hash.evaluation.cosine_mean_average_precision import cosine_mean_average_precision
from math_hash.evaluation.leak_check import LeakReport, leak_check
from math_hash.evaluation.mean_average_precision import mean_average_precision
from math_hash.evaluation.ndcg import ndcg
from math_hash.evaluation.own_pair_recall import own_pair_recall
from math_hash.evaluation.precision_at import precision_at
from math_hash.evaluation.radius_curves import RadiusCurves, radius_curves
from math_hash.evaluation.ranking_metrics import RankingMetrics, ranking_metrics
from math_hash.evaluation.recall_at import recall_at
from math_hash.evaluation.significance import Difference, mean_and_deviation, paired_bootstrap
from math_hash.evaluation.weighted_average_precision import weighted_average_precision

__all__ = [
    "Difference",
    "LeakReport",
    "RadiusCurves",
    "RankingMetrics",
    "acg",
    "average_precision",
    "chance_level",
    "chance_level_warning",
    "cosine_mean_average_precision",
    "leak_check",
    "mean_and_deviation",
    "mean_average_precision",
    "ndcg",
    "normalized_score",
    "own_pair_recall",
    "paired_bootstrap",
    "precision_at",
    "radius_curves",
    "ranking_metrics",
    "recall_at",
    "weighted_average_precision",
]
