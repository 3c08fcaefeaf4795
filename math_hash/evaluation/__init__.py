"""Metrics on codes and labels. Knows no model."""

from math_hash.evaluation.average_precision import average_precision, mean_average_precision
from math_hash.evaluation.floor import random_floor

__all__ = ["average_precision", "mean_average_precision", "random_floor"]
