import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from math_hash import InputError
from math_hash.codes import pack
from math_hash.evaluation import average_precision, mean_average_precision, random_floor


def plain_average_precision(query, database, query_label, database_labels):
    """Two loops: rank by distance and then by row, add up the precision at each relevant rank."""
    distances = [sum(a != b for a, b in zip(query, row, strict=True)) for row in database]
    order = sorted(range(len(database)), key=lambda row: (distances[row], row))
    found, total = 0, 0.0
    for rank, row in enumerate(order, start=1):
        if any(a and b for a, b in zip(query_label, database_labels[row], strict=True)):
            found += 1
            total += found / rank
    return total / found if found else 0.0


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 4),
    rows=st.integers(1, 40),
    k_bits=st.sampled_from([1, 3, 8, 12, 16, 64, 65, 130]),
    labels=st.sampled_from([1, 3, 70]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    different=st.integers(1, 5),
)
def test_equals_a_plain_double_loop(seed, queries, rows, k_bits, labels, density, different):
    rng = np.random.default_rng(seed)
    pool = rng.random((different, k_bits)) < 0.5  # few codes: many ties and duplicated rows
    query, database = pool[rng.integers(0, different, queries)], pool[rng.integers(0, different, rows)]
    query_labels, database_labels = (rng.random((n, labels)) < density for n in (queries, rows))
    found = average_precision(query, database, query_labels, database_labels)
    expected = [
        plain_average_precision(q, database, label, database_labels)
        for q, label in zip(query, query_labels, strict=True)
    ]
    assert np.allclose(found, expected, atol=1e-12)
    assert mean_average_precision(
        pack(query), pack(database), query_labels, database_labels, k_bits=k_bits
    ) == pytest.approx(np.mean(expected))


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
    simulated = np.mean(
        [
            [
                plain_average_precision([0], np.zeros((25, 1)), label, database_labels[rng.permutation(25)])
                for label in query_labels
            ]
            for _ in range(1500)
        ]
    )
    assert random_floor(query_labels, database_labels) == pytest.approx(simulated, abs=0.005)
    assert random_floor(np.eye(2)[:1], np.eye(2)[1:]) == 0
    assert random_floor(np.ones((1, 1)), np.ones((7, 1))) == pytest.approx(1)
