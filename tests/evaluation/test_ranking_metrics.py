"""Every ranking metric against a plain implementation on lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_metrics import RANDOM_TASKS, RULES, orders, plain_metrics, plain_radius_curves, random_task

from math_hash.evaluation import (
    acg,
    average_precision,
    ndcg,
    precision_at,
    radius_curves,
    ranking_metrics,
    recall_at,
    weighted_average_precision,
)


def of_query(metrics, query):
    """One query's values in the order of `plain_metrics`."""
    values = [
        metrics.average_precision[query],
        metrics.average_precision_at_k[query],
        metrics.weighted_average_precision[query],
    ]
    for place in range(len(metrics.at)):
        values += [getattr(metrics, name)[query, place] for name in ("precision", "recall", "ndcg", "acg")]
    return values


def check(ties, normalizer, top, minimum, at, **shape):
    task = query, database, query_labels, database_labels = random_task(**shape)
    options = {"ties": ties, "normalizer": normalizer, "min_shared": minimum}
    metrics = ranking_metrics(*task, top_k=top, at=at, **options)
    alone = average_precision(*task, top_k=top, **options)
    whole = average_precision(*task, **options)
    top = min(top, len(database))
    for q in range(len(query)):
        distances = (query[q] != database).sum(1).tolist()
        gains = (query_labels[q] & database_labels).sum(1).tolist()
        every = [
            plain_metrics([gains[row] for row in order], minimum, top, normalizer, at)
            for order in orders(distances, gains, ties)
        ]
        expected = np.mean(every, axis=0)
        assert np.allclose(of_query(metrics, q), expected, atol=1e-9)
        assert alone[q] == pytest.approx(expected[1], abs=1e-9)
        assert whole[q] == pytest.approx(expected[0], abs=1e-9)
        curves = plain_radius_curves(distances, gains, minimum, query.shape[1])
        for name, curve in zip(("radius_precision", "radius_recall", "radius_f1"), curves, strict=True):
            assert getattr(metrics, name)[q] == pytest.approx(curve)


@settings(deadline=None, max_examples=300)
@given(rows=st.integers(1, 40), ties=st.sampled_from(["index", "optimistic", "pessimistic"]), **RANDOM_TASKS, **RULES)
def test_every_metric_equals_a_plain_implementation(ties, **case):
    check(ties, **case)


@settings(deadline=None, max_examples=200)
@given(rows=st.integers(1, 6), **RANDOM_TASKS, **RULES)
def test_expected_is_the_mean_over_all_orders_within_ties(**case):
    check("expected", **case)


TIES = ["index", "optimistic", "pessimistic", "expected"]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    ties=st.sampled_from(TIES),
    no_relevant=st.sampled_from(["zero", "skip"]),
    minimum=st.sampled_from([1, 2]),
    at=st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True),
    **RANDOM_TASKS,
)
def test_each_metric_alone_equals_all_at_once_bit_for_bit(ties, no_relevant, minimum, at, **shape):
    task = random_task(**shape)
    task[2][0], task[3][0] = True, True  # one query has a relevant row, if labels need not be two
    minimum = min(minimum, task[2].shape[1])
    options = {"ties": ties, "no_relevant": no_relevant, "min_shared": minimum}
    metrics = ranking_metrics(*task, at=at, **options)
    columns = [sorted(at).index(cut) for cut in at]
    for function, values in (
        (precision_at, metrics.precision),
        (recall_at, metrics.recall),
        (ndcg, metrics.ndcg),
        (acg, metrics.acg),
    ):
        several, one = function(*task, at=at, **options), function(*task, at=at[0], **options)
        assert np.array_equal(several, values[:, columns], equal_nan=True)
        assert np.array_equal(one, values[:, columns[0]], equal_nan=True)
    graded = weighted_average_precision(*task, **options)
    assert np.array_equal(graded, metrics.weighted_average_precision, equal_nan=True)
    curves = radius_curves(*task, min_shared=minimum, no_relevant=no_relevant)
    assert np.array_equal(curves.precision, metrics.radius_precision, equal_nan=True)
    assert np.array_equal(curves.recall, metrics.radius_recall, equal_nan=True)
    assert np.array_equal(curves.f1, metrics.radius_f1, equal_nan=True)


def test_a_relevance_from_the_caller_grades_each_metric():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (40, 12)), rng.integers(0, 2, (40, 5))
    task = (codes[:6], codes, labels[:6], labels)

    def shared(query_labels, database_labels):
        return query_labels @ database_labels.T

    own, built_in = ranking_metrics(*task, relevance=shared), ranking_metrics(*task)
    for name in ("average_precision", "ndcg", "weighted_average_precision", "relevant_within"):
        assert np.allclose(getattr(own, name), getattr(built_in, name))
    assert np.allclose(ndcg(*task, at=20, relevance=shared), ndcg(*task, at=20))
    assert np.allclose(radius_curves(*task, relevance=shared).f1, radius_curves(*task).f1)


def test_recall_never_exceeds_one_and_rises_with_the_radius():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (200, 16)), rng.integers(0, 2, (200, 5)) | [1, 0, 0, 0, 0]
    means = ranking_metrics(codes[:20], codes, labels[:20], labels).mean()
    recall = np.array(means["radius_recall"])
    assert (np.diff(recall) >= 0).all()
    assert recall[-1] == 1
    assert max(means["recall"]) <= 1
