"""Distance thresholds against counting pairs."""

import numpy as np
import pytest

from math_hash.evaluation import distance_threshold


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 0.5])
def test_the_threshold_is_the_largest_that_keeps_the_rate(rate):
    random = np.random.default_rng(3)
    queries, database = random.integers(0, 2, (300, 11)), random.integers(0, 2, (40, 11))
    query_labels, database_labels = random.random((300, 4)) < 0.3, random.random((40, 4)) < 0.3
    distances = [
        (queries[q] != database[row]).sum()
        for q in range(300)
        for row in range(40)
        if not (query_labels[q] & database_labels[row]).any()
    ]
    fitting = [d for d in range(12) if np.mean([distance <= d for distance in distances]) <= rate]
    wanted = max(fitting) if fitting else None
    assert distance_threshold(queries, database, query_labels, database_labels, rate) == wanted


def test_there_is_none_where_equal_codes_or_all_labels_are_shared():
    codes = np.ones((3, 8))
    assert distance_threshold(codes, codes, np.eye(3), np.eye(3), 0.01) is None
    assert distance_threshold(codes, -codes, np.ones((3, 1)), np.ones((3, 1)), 0.01) is None
