"""Every ranking metric against a plain implementation on lists, written here from the definitions."""

import os
import subprocess
import sys
from itertools import chain, permutations, product
from math import log2

import numpy as np
import pytest
import torch
from conftest import DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st

from math_hash import InputError
from math_hash.evaluation import average_precision, mean_average_precision, on_device, random_floor, ranking_metrics
from math_hash.evaluation.cosine_mean_average_precision import cosine_precision
from math_hash.hamming.codes import pack


def orders(distances, gains, ties):
    """The rankings (lists of rows) over which a tie rule averages."""
    rows = range(len(distances))
    if ties == "expected":
        groups = [[row for row in rows if distances[row] == d] for d in sorted(set(distances))]
        return [list(chain(*choice)) for choice in product(*map(permutations, groups))]
    key = {"index": lambda row: row, "optimistic": lambda row: -gains[row], "pessimistic": lambda row: gains[row]}[ties]
    return [sorted(rows, key=lambda row: (distances[row], key(row)))]


def plain_metrics(ranked, minimum, top, normalizer, at):
    """Metrics of one ranking, given as the list of its gains."""
    relevant = [gain >= minimum for gain in ranked]
    R, n = sum(relevant), len(ranked)
    precisions = [sum(relevant[:rank]) / rank for rank in range(1, n + 1)]
    hits = [precisions[rank] for rank in range(n) if relevant[rank]]
    if normalizer == "lineage":
        at_k = hits[: min(top, R)]
        ap_k = sum(at_k) / len(at_k) if at_k else 0.0
    else:
        inside = [precisions[rank] for rank in range(min(top, n)) if relevant[rank]]
        whole = len(inside) if normalizer == "hits" else min(R, top)
        ap_k = sum(inside) / whole if whole else 0.0
    acg = [sum(ranked[:rank]) / rank for rank in range(1, n + 1)]

    def dcg(gains):
        return sum((2**gain - 1) / log2(place + 2) for place, gain in enumerate(gains))

    found = [acg[rank] for rank in range(n) if relevant[rank]]
    values = [sum(hits) / R if R else 0.0, ap_k, sum(found) / R if R else 0.0]
    for cut in at:
        depth = min(cut, n)
        ideal = dcg(sorted(ranked, reverse=True)[:depth])
        values += [
            sum(relevant[:depth]) / depth,
            sum(relevant[:depth]) / R if R else 0.0,
            dcg(ranked[:depth]) / ideal if ideal else 0.0,
            sum(ranked[:depth]) / depth,
        ]
    return values


def found_metrics(metrics, query):
    values = [
        metrics.average_precision[query],
        metrics.average_precision_at_k[query],
        metrics.weighted_average_precision[query],
    ]
    for place in range(len(metrics.at)):
        values += [getattr(metrics, name)[query, place] for name in ("precision", "recall", "ndcg", "acg")]
    return values


def random_task(seed, queries, rows, k_bits, labels, density, different):
    rng = np.random.default_rng(seed)
    pool = rng.random((different, k_bits)) < 0.5  # few codes: many ties and duplicated rows
    query, database = pool[rng.integers(0, different, queries)], pool[rng.integers(0, different, rows)]
    return query, database, *(rng.random((n, labels)) < density for n in (queries, rows))


tasks = {
    "seed": st.integers(0, 2**32 - 1),
    "queries": st.integers(1, 3),
    "k_bits": st.sampled_from([1, 3, 8, 12, 16, 64, 65, 130]),
    "labels": st.sampled_from([1, 3, 70]),
    "density": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "different": st.integers(1, 5),
    "normalizer": st.sampled_from(["lineage", "hits", "min"]),
    "top": st.integers(1, 30),
    "minimum": st.sampled_from([1, 1, 2]),
    "at": st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True).map(sorted),
}


def check(ties, normalizer, top, minimum, at, **shape):
    query, database, query_labels, database_labels = random_task(**shape)
    options = {"ties": ties, "normalizer": normalizer, "min_shared": minimum}
    metrics = ranking_metrics(query, database, query_labels, database_labels, top_k=top, at=at, **options)
    alone = average_precision(query, database, query_labels, database_labels, top_k=top, **options)
    whole = average_precision(query, database, query_labels, database_labels, **options)
    top = min(top, len(database))
    for q in range(len(query)):
        distances = (query[q] != database).sum(1).tolist()
        gains = (query_labels[q] & database_labels).sum(1).tolist()
        every = [
            plain_metrics([gains[row] for row in order], minimum, top, normalizer, at)
            for order in orders(distances, gains, ties)
        ]
        expected = np.mean(every, axis=0)
        assert np.allclose(found_metrics(metrics, q), expected, atol=1e-9)
        assert alone[q] == pytest.approx(expected[1], abs=1e-9)
        assert whole[q] == pytest.approx(expected[0], abs=1e-9)
        for radius in range(metrics.rows_within.shape[1]):
            near = [gain for distance, gain in zip(distances, gains, strict=True) if distance <= radius]
            good, R = sum(gain >= minimum for gain in near), sum(gain >= minimum for gain in gains)
            precision, recall = good / len(near) if near else 0.0, good / R if R else 0.0
            assert metrics.radius_precision[q, radius] == pytest.approx(precision)
            assert metrics.radius_recall[q, radius] == pytest.approx(recall)
            f1 = 2 * precision * recall / (precision + recall) if good else 0.0
            assert metrics.radius_f1[q, radius] == pytest.approx(f1)


@settings(deadline=None, max_examples=300)
@given(rows=st.integers(1, 40), ties=st.sampled_from(["index", "optimistic", "pessimistic"]), **tasks)
def test_every_metric_equals_a_plain_implementation(ties, **case):
    check(ties, **case)


@settings(deadline=None, max_examples=200)
@given(rows=st.integers(1, 6), **tasks)
def test_expected_is_the_mean_over_all_orders_within_ties(**case):
    check("expected", **case)


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
@given(rows=st.integers(1, 40), **tasks)
def test_tie_rules_are_ordered(rows, normalizer, top, minimum, at, **shape):
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


def test_torchmetrics_agrees_where_there_are_no_ties():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    rng = np.random.default_rng(0)
    k = 40
    database = np.arange(k)[None] < rng.permutation(k)[:, None]  # distances to the zero code are all different
    labels = rng.random((k, 4)) < 0.3
    query, query_labels = np.zeros((1, k), bool), labels[:1] | [True, False, False, False]
    metrics = ranking_metrics(query, database, query_labels, labels, top_k=10, at=[10], normalizer="min")
    scores = torch.from_numpy(k + 1.0 - database.sum(1))  # positive, nearer is higher
    gains = torch.from_numpy((query_labels & labels).sum(1))
    target = gains > 0
    assert metrics.average_precision[0] == pytest.approx(float(retrieval.retrieval_average_precision(scores, target)))
    assert metrics.precision[0, 0] == pytest.approx(float(retrieval.retrieval_precision(scores, target, top_k=10)))
    assert metrics.recall[0, 0] == pytest.approx(float(retrieval.retrieval_recall(scores, target, top_k=10)))
    powers = 2**gains - 1  # torchmetrics takes linear gains
    ndcg = retrieval.retrieval_normalized_dcg(scores, powers, top_k=10)
    assert metrics.ndcg[0, 0] == pytest.approx(float(ndcg), abs=1e-6)


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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", ["index", "optimistic", "pessimistic"])
@pytest.mark.parametrize("normalizer", ["lineage", "hits", "min"])
def test_the_path_of_gpus_gives_the_same_numbers(device, ties, normalizer):
    rng = np.random.default_rng(0)
    bits, labels = rng.integers(0, 2, (90, 20)), (rng.random((90, 4)) < 0.3).astype(int)
    packed, truth = torch.from_numpy(pack(bits)).to(device), torch.from_numpy(labels).to(device)
    found, relevant = on_device.average_precision(
        packed[:20], packed, truth[:20], truth, minimum=1, top=15, normalizer=normalizer, ties=ties
    )
    options = {"top_k": 15, "normalizer": normalizer, "ties": ties, "k_bits": 20}
    expected = average_precision(pack(bits[:20]), pack(bits), labels[:20], labels, **options)
    assert np.allclose(found.cpu().numpy(), expected, atol=1e-12)
    assert relevant.cpu().tolist() == (labels[:20] @ labels.T > 0).sum(1).tolist()
    through = average_precision(packed[:20], packed, truth[:20], truth, **options)
    assert np.allclose(through, expected, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_threads_or_on_other_queries(threads):
    import numba

    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (300, 24)), rng.integers(0, 2, (300, 6))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(min(threads, before))
        together = average_precision(codes[:50], codes, labels[:50], labels)
        alone = [average_precision(codes[q : q + 1], codes, labels[q : q + 1], labels)[0] for q in range(50)]
    finally:
        numba.set_num_threads(before)
    assert together.tolist() == alone


def test_a_launchers_number_of_threads_is_kept():
    code = (
        "import numpy as np, torch; from math_hash.evaluation import average_precision;"
        "bits = np.eye(8, dtype=np.uint8); average_precision(bits, bits, bits, bits); print(torch.get_num_threads())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "1\n"


def test_a_callers_own_relevance():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (40, 12)), rng.integers(0, 2, (40, 5))
    task = (codes[:6], codes, labels[:6], labels)

    def shared(query_labels, database_labels):
        return query_labels @ database_labels.T

    own, built_in = ranking_metrics(*task, relevance=shared), ranking_metrics(*task)
    for name in ("average_precision", "ndcg", "weighted_average_precision", "relevant_within"):
        assert np.allclose(getattr(own, name), getattr(built_in, name))
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


def test_recall_never_passes_one_and_rises_with_the_radius():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 2, (200, 16)), rng.integers(0, 2, (200, 5)) | [1, 0, 0, 0, 0]
    means = ranking_metrics(codes[:20], codes, labels[:20], labels).mean()
    recall = np.array(means["radius_recall"])
    assert (np.diff(recall) >= 0).all()
    assert recall[-1] == 1
    assert max(means["recall"]) <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_codes": np.full((2, 8), 0.3)}, "query_codes: holds values other than"),
        ({"query_codes": np.full((2, 8), np.nan)}, "query_codes: holds values other than"),
        ({"query_codes": np.ones((2, 9))}, "query_codes have 9 bits, database_codes 8"),
        ({"query_codes": np.ones((0, 8)), "query_labels": np.ones((0, 2))}, "query_codes: has no rows"),
        ({"database_codes": np.ones((0, 8)), "database_labels": np.ones((0, 2))}, "database_codes: has no rows"),
        ({"database_labels": np.ones((4, 2))}, "database_labels: shape .4, 2.; expected a matrix with 3 rows"),
        ({"query_labels": np.full((2, 2), 3)}, "query_labels: holds values other than 0 and 1"),
        ({"query_labels": np.ones((2, 3))}, "query_labels have 3 labels, database_labels 2"),
        ({"k_bits": 9}, "query_codes: has 8 columns, but k_bits is 9"),
        ({"query_codes": np.ones((2, 1), np.uint8), "k_bits": 9}, "1 bytes a row do not hold k_bits = 9"),
        ({"query_codes": np.full((2, 1), 255, np.uint8), "k_bits": 7}, "bits after the first 7 are set"),
        ({"query_codes": np.ones(8)}, "query_codes: shape"),
        ({"ties": "random"}, "ties: 'random' is unknown; choose from index"),
        ({"normalizer": "all"}, "normalizer: 'all' is unknown"),
        ({"no_relevant": "drop"}, "no_relevant: 'drop' is unknown"),
        ({"top_k": 0}, "top_k: 0; expected at least 1"),
        ({"min_shared": 0}, "min_shared: 0"),
    ],
)
def test_bad_input_names_the_argument(change, message):
    arguments = {
        "query_codes": np.ones((2, 8)),
        "database_codes": np.ones((3, 8)),
        "query_labels": np.ones((2, 2)),
        "database_labels": np.ones((3, 2)),
    }
    with pytest.raises(InputError, match=message):
        average_precision(**{**arguments, **change})


def test_the_floor_is_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    query_labels, database_labels = rng.random((6, 5)) < 0.3, rng.random((25, 5)) < 0.3
    simulated = []
    for _ in range(1500):
        order = rng.permutation(25)
        for label in query_labels:
            gains = (label & database_labels[order]).sum(1).tolist()
            simulated.append(plain_metrics(gains, 1, 25, "lineage", [])[0])
    assert random_floor(query_labels, database_labels) == pytest.approx(np.mean(simulated), abs=0.005)
    assert random_floor(np.eye(2)[:1], np.eye(2)[1:]) == 0
    assert random_floor(np.ones((1, 1)), np.ones((7, 1))) == pytest.approx(1)


def test_float_cosine_of_binary_codes_ranks_like_their_hamming_distance():
    rng = np.random.default_rng(4)
    query, database = (np.where(rng.random((n, 16)) < 0.5, -1.0, 1.0) for n in (9, 70))
    query_labels, database_labels = (rng.integers(0, 2, (n, 4)) for n in (9, 70))
    query_labels[0] = 0  # nothing is relevant to it
    found = cosine_precision(3 * query, database, query_labels, database_labels)
    assert found == pytest.approx(mean_average_precision(query, database, query_labels, database_labels))
