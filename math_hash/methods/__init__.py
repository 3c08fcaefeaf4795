"""Hash methods, one per file, and how to find them by name."""

from math_hash.data.needs import Needs
from math_hash.methods.method import Method, PooledMethod, TrainingSet
from math_hash.methods.registry import (
    METHODS,
    WITHOUT_LABELS,
    complete_options,
    find_method,
    method_names,
    name_of,
    short_name,
)

__all__ = [
    "METHODS",
    "WITHOUT_LABELS",
    "Method",
    "Needs",
    "PooledMethod",
    "TrainingSet",
    "complete_options",
    "find_method",
    "method_names",
    "name_of",
    "short_name",
]
