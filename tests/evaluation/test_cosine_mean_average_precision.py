"""The cosine of float vectors as a ranking."""

import numpy as np
import pytest
from plain_metrics import plain_metrics

from math_hash.evaluation import cosine_mean_average_precision, mean_average_precision


def test_cosine_of_binary_codes_ranks_like_their_hamming_distance():
    rng = np.random.default_rng(4)
    query, database = (np.where(rng.random((n, 16)) < 0.5, -1.0, 1.0) for n in (9, 70))
    query_labels, database_labels = (rng.integers(0, 2, (n, 4)) for n in (9, 70))
    query_labels[0] = 0  # nothing is relevant to it
    cosine = cosine_mean_average_precision(3 * query, database, query_labels, database_labels)
    assert cosine == pytest.approx(mean_average_precision(query, database, query_labels, database_labels))


def test_it_equals_a_plain_implementation():
    rng = np.random.default_rng(0)
    query, database = rng.normal(size=(7, 5)), rng.normal(size=(40, 5))
    query_labels, database_labels = rng.integers(0, 2, (7, 3)), rng.integers(0, 2, (40, 3))
    expected = []
    for vector, labels in zip(query, query_labels, strict=True):
        cosines = [float(vector @ row / np.linalg.norm(vector) / np.linalg.norm(row)) for row in database]
        order = sorted(range(40), key=lambda row: -cosines[row])
        gains = [int(labels @ database_labels[row]) for row in order]
        expected.append(plain_metrics(gains, 1, 40, "lineage", [])[0])
    cosine = cosine_mean_average_precision(query, database, query_labels, database_labels)
    assert cosine == pytest.approx(np.mean(expected))
