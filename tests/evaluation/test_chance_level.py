"""The chance level, and scores relative to it."""

import numpy as np
import pytest
from plain_metrics import plain_metrics

from math_hash.evaluation import chance_level, chance_level_warning, normalized_score


def test_the_chance_level_is_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    query_labels, database_labels = rng.random((6, 5)) < 0.3, rng.random((25, 5)) < 0.3
    simulated = []
    for _ in range(1500):
        order = rng.permutation(25)
        for label in query_labels:
            gains = (label & database_labels[order]).sum(1).tolist()
            simulated.append(plain_metrics(gains, 1, 25, "lineage", [])[0])
    assert chance_level(query_labels, database_labels) == pytest.approx(np.mean(simulated), abs=0.005)
    assert chance_level(np.eye(2)[:1], np.eye(2)[1:]) == 0
    assert chance_level(np.ones((1, 1)), np.ones((7, 1))) == pytest.approx(1)


def test_normalized_score_and_warning():
    assert normalized_score(0.78, 0.56) == pytest.approx(0.5)
    assert normalized_score(1.0, 1.0) == 0
    assert chance_level_warning(0.565, 0.56)
    assert chance_level_warning(0.58, 0.56) is None
