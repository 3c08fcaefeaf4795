"""Whether a difference between two models is more than chance."""

import numpy as np
import pytest

from math_hash import InputError
from math_hash.evaluation import mean_and_deviation, paired_bootstrap


def test_bootstrap_tells_a_difference_from_chance():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    better = paired_bootstrap(base, base + 0.02 + 0.05 * rng.normal(size=500))
    assert better.low > 0
    assert better.p_value < 0.001
    same = paired_bootstrap(base, base + 0.05 * rng.normal(size=500))
    assert same.low < 0 < same.high
    assert same.p_value > 0.05
    assert paired_bootstrap(base, base).p_value == 1
    assert paired_bootstrap(base, base[::-1]) == paired_bootstrap(base, base[::-1])
    skipped = np.where(base < 0.2, np.nan, base)
    assert paired_bootstrap(skipped, base + 0.02) == paired_bootstrap(base[base >= 0.2], base[base >= 0.2] + 0.02)
    with pytest.raises(InputError, match="of 500 queries none has a value in both"):
        paired_bootstrap(skipped * np.nan, base)
    with pytest.raises(InputError, match="one value per query in both"):
        paired_bootstrap(base, base[:-1])
    # under no difference, small p-values are as rare as they should be
    values = [paired_bootstrap(*rng.normal(size=(2, 40)), samples=500, seed=seed).p_value for seed in range(200)]
    assert 0.01 < np.mean(np.array(values) < 0.05) < 0.12


def test_mean_and_deviation_over_seeds():
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
