"""Average precision: its rules for ties and empty queries, the forms of codes, threads."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_metrics import RANDOM_TASKS, random_task

from math_hash import InputError
from math_hash.evaluation import average_precision, mean_average_precision, ranking_metrics
from math_hash.hamming.codes import pack


def test_expected_is_the_mean_over_many_random_orders():
    rng = np.random.default_rng(0)
    database, labels = rng.integers(0, 2, (200, 4)), (rng.random((200, 3)) < 0.3).astype(int)
    query, query_labels = database[:5], labels[:5]
    for options in ({}, {"top_k": 20, "normalizer": "hits"}, {"top_k": 20, "normalizer": "lineage"}):
        expected = average_precision(query, database, query_labels, labels, ties="expected", **options)
        sampled = []
        for _ in range(2000):
            order = rng.permutation(200)
            sampled.append(average_precision(query, database[order], query_labels, labels[order], **options))
        error = np.std(sampled, axis=0) / np.sqrt(len(sampled))
        assert (np.abs(np.mean(sampled, axis=0) - expected) < 5 * error + 1e-12).all()


@settings(deadline=None, max_examples=100)
@given(rows=st.integers(1, 40), **RANDOM_TASKS)
def test_tie_rules_are_ordered(rows, **shape):
    task = random_task(rows=rows, **shape)
    values = [average_precision(*task, ties=ties) for ties in ("optimistic", "expected", "pessimistic")]
    assert (values[0] >= values[1] - 1e-12).all()
    assert (values[1] >= values[2] - 1e-12).all()
    index = average_precision(*task)
    assert (values[0] >= index - 1e-12).all()
    assert (index >= values[2] - 1e-12).all()


def test_ties_are_broken_by_database_order():
    codes, labels = np.ones((4, 8)), np.array([[1, 0], [0, 1], [0, 1], [1, 0]])
    assert average_precision(codes[:1], codes, labels[:1], labels).tolist() == [(1 / 1 + 2 / 4) / 2]


def test_forms_of_codes_agree():
    rng = np.random.default_rng(0)
    bits = rng.random((30, 20)) < 0.5
    labels = rng.integers(0, 2, (30, 4))
    expected = average_precision(bits[:5], bits, labels[:5], labels)
    signs = np.where(bits, 1, -1)
    for codes in (signs, signs.astype(np.float32), bits.astype(int), torch.from_numpy(signs).float()):
        assert (average_precision(codes[:5], codes, labels[:5], labels) == expected).all()
    packed = torch.from_numpy(pack(bits))
    assert (average_precision(packed[:5], packed, labels[:5], torch.from_numpy(labels), k_bits=20) == expected).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_results_do_not_depend_on_threads_or_on_other_queries(threads, monkeypatch):
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (300, 24)), rng.integers(0, 2, (300, 6))
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
    together = average_precision(codes[:50], codes, labels[:50], labels)
    alone = [average_precision(codes[q : q + 1], codes, labels[q : q + 1], labels)[0] for q in range(50)]
    assert together.tolist() == alone


def test_evaluating_arrays_imports_no_pytorch_and_no_pyplot():
    code = (
        "import sys, numpy as np; from math_hash.evaluation import average_precision, report;"
        "bits = np.eye(8, dtype=np.uint8); average_precision(bits, bits, bits, bits);"
        "print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_callers_can_pass_their_own_relevance():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (40, 12)), rng.integers(0, 2, (40, 5))
    task = (codes[:6], codes, labels[:6], labels)
    same = average_precision(*task, relevance=lambda q, d: (q[:, None] == d[None]).all(-1).astype(int))
    assert (same > 0).all()  # each query is in the database
    with pytest.raises(InputError, match="relevance: gave shape"):
        average_precision(*task, relevance=lambda q, d: q)


def test_queries_without_relevant_rows():
    codes, labels = np.ones((3, 8)), np.array([[1, 0], [1, 0], [0, 0]])
    task = (codes, codes, labels, labels)
    assert average_precision(*task).tolist() == [1, 1, 0]
    assert mean_average_precision(*task, no_relevant="skip") == 1
    assert ranking_metrics(*task).without_relevant == 1
    assert ranking_metrics(*task, no_relevant="skip").mean()["precision"][0] == 1
    with pytest.raises(InputError, match="1 of 3 queries have no relevant row, first row 2"):
        average_precision(*task, no_relevant="error")
