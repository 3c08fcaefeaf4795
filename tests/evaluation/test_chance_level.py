"""The chance level, and scores relative to it."""

import numpy as np
import pytest
from plain_metrics import plain_metrics

from math_hash.evaluation import chance_level, chance_level_warning, normalized_score


@pytest.mark.parametrize(
    ("normalizer", "top_k", "no_relevant", "min_shared"),
    [("lineage", None, "zero", 1), ("lineage", 4, "skip", 2), ("hits", 6, "zero", 2), ("min", 9, "skip", 1)],
)
def test_the_chance_level_is_the_mean_over_random_orders(normalizer, top_k, no_relevant, min_shared):
    rng = np.random.default_rng(0)
    query_labels, database_labels = rng.random((6, 5)) < 0.4, rng.random((25, 5)) < 0.3
    query_labels[0] = False
    simulated = []
    for _ in range(400):
        order = rng.permutation(25)
        for label in query_labels:
            gains = (label & database_labels[order]).sum(1).tolist()
            if no_relevant == "zero" or max(gains) >= min_shared:
                simulated.append(plain_metrics(gains, min_shared, top_k or 25, normalizer, [])[1])
    rules = {"normalizer": normalizer, "top_k": top_k, "no_relevant": no_relevant, "min_shared": min_shared}
    chance = chance_level(query_labels, database_labels, **rules)
    assert chance == pytest.approx(np.mean(simulated), abs=4 * np.std(simulated) / len(simulated) ** 0.5)


def test_the_chance_level_at_its_bounds_and_of_an_own_rule():
    assert chance_level(np.eye(2)[:1], np.eye(2)[1:]) == 0
    assert chance_level(np.ones((1, 1)), np.ones((7, 1))) == pytest.approx(1)
    labels = np.random.default_rng(0).random((30, 6)) < 0.4
    own = chance_level(labels, labels, relevance=lambda a, b: (a.astype(int) @ b.T) >= 2)
    assert own == chance_level(labels, labels, min_shared=2) != chance_level(labels, labels)


def test_normalized_score_and_warning():
    assert normalized_score(0.78, 0.56) == pytest.approx(0.5)
    assert normalized_score(1.0, 1.0) == 0
    assert normalized_score(0.4, 0.2, best=0.6) == pytest.approx(0.5)
    assert chance_level_warning(0.565, 0.56)
    assert chance_level_warning(0.58, 0.56) is None
