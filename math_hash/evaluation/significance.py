"""Whether a difference between two models is more than chance."""

from dataclasses import dataclass

import numpy as np

from math_hash.errors import InputError


@dataclass(frozen=True)
class Difference:
    """Mean difference of two models' per-query values, its 95 % interval, and a two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(first: np.ndarray, second: np.ndarray, samples: int = 10_000, seed: int = 0) -> Difference:
    """Compare two models on the same queries by resampling queries (Efron and Tibshirani 1993, chapters 13 and 16).

    Args:
        first, second: float (q,), one value per query, such as average precision; queries in the same order. A query
            that is NaN in either, as `no_relevant="skip"` marks it, is left out of both.
        samples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        The difference second - first. The p-value is twice the share of samples on the other side of 0, at least
        2 / (samples + 1).

    Raises:
        InputError: the arrays differ in length, or no query is left.

    Example:
        >>> import numpy as np
        >>> difference = paired_bootstrap(np.zeros(50), np.full(50, 0.25))
        >>> difference.mean, difference.low, difference.p_value < 0.001
        (0.25, 0.25, True)
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(
            f"first, second: shapes {first.shape} and {second.shape}; expected one value per query in both"
        )
    differences = second - first
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        raise InputError(f"first, second: of {len(first)} queries none has a value in both; nothing can be compared")
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    block = max(1, 10_000_000 // len(differences))
    for start in range(0, samples, block):
        size = min(block, samples - start)
        means[start : start + size] = differences[rng.integers(0, len(differences), (size, len(differences)))].mean(1)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.quantile(means, [0.025, 0.975])
    p_value = min(1.0, float(2 * (tail + 1) / (samples + 1)))
    return Difference(float(differences.mean()), float(low), float(high), p_value)


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; the deviation of a single value is 0.

    Example:
        >>> mean_and_deviation([1.0, 2.0, 3.0])
        (2.0, 1.0)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
