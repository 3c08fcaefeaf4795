"""Agreement with torchmetrics, on rankings without ties, for metrics that both define in the same way."""

import numpy as np
import pytest
import torch

from math_hash.evaluation import average_precision, mean_average_precision, ndcg, precision_at, recall_at

functional = pytest.importorskip("torchmetrics.functional.retrieval")
retrieval = pytest.importorskip("torchmetrics.retrieval")

ROWS, QUERIES = 40, 25


@pytest.fixture(scope="module")
def task():
    """Query codes are zero, and the distances of the database's rows from zero are all different."""
    rng = np.random.default_rng(0)
    database = np.arange(ROWS)[None] < rng.permutation(ROWS)[:, None]
    query_labels, labels = rng.random((QUERIES, 6)) < 0.3, rng.random((ROWS, 6)) < 0.3
    query_labels[0] = False  # nothing is relevant to it
    return np.zeros((QUERIES, ROWS), bool), database, query_labels, labels


def scores_of(task):
    """Scores (n,), positive and higher for nearer rows, and gains (q, n)."""
    _, database, query_labels, labels = task
    return torch.from_numpy(ROWS + 1.0 - database.sum(1)), torch.from_numpy(query_labels.astype(int) @ labels.T)


def each_query(function, task, target, **options):
    scores, _ = scores_of(task)
    return [float(function(scores, row, **options)) for row in target]


def test_average_precision(task):
    target = scores_of(task)[1] > 0
    assert average_precision(*task) == pytest.approx(each_query(functional.retrieval_average_precision, task, target))


def test_average_precision_over_hits_at_a_cutoff(task):
    target = scores_of(task)[1] > 0
    theirs = each_query(functional.retrieval_average_precision, task, target, top_k=7)
    assert average_precision(*task, top_k=7, normalizer="hits") == pytest.approx(theirs)


@pytest.mark.parametrize(("no_relevant", "action"), [("zero", "neg"), ("skip", "skip")])
def test_mean_average_precision(task, no_relevant, action):
    scores, gains = scores_of(task)
    query = torch.arange(QUERIES)[:, None].expand(QUERIES, ROWS)
    metric = retrieval.RetrievalMAP(empty_target_action=action)
    theirs = metric(scores.expand(QUERIES, ROWS).flatten(), (gains > 0).flatten(), indexes=query.flatten())
    assert mean_average_precision(*task, no_relevant=no_relevant) == pytest.approx(float(theirs))


@pytest.mark.parametrize("cut", [1, 10, ROWS])
def test_precision_at(task, cut):
    target = scores_of(task)[1] > 0
    theirs = each_query(functional.retrieval_precision, task, target, top_k=cut)
    assert precision_at(*task, at=cut) == pytest.approx(theirs)


@pytest.mark.parametrize("cut", [1, 10, ROWS])
def test_recall_at(task, cut):
    target = scores_of(task)[1] > 0
    theirs = each_query(functional.retrieval_recall, task, target, top_k=cut)
    assert recall_at(*task, at=cut) == pytest.approx(theirs)


@pytest.mark.parametrize("cut", [1, 10, ROWS])
def test_ndcg(task, cut):
    powers = 2 ** scores_of(task)[1] - 1  # torchmetrics takes linear gains
    theirs = each_query(functional.retrieval_normalized_dcg, task, powers, top_k=cut)
    assert ndcg(*task, at=cut) == pytest.approx(theirs, abs=1e-6)
