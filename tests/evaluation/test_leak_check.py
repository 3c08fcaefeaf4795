"""The leak check on functions that leak in one way each."""

import numpy as np
import pytest
import torch

from math_hash import InputError
from math_hash.evaluation import leak_check
from math_hash.hamming.codes import pack

RNG = np.random.default_rng(0)
IMAGES, TEXTS, LABELS = RNG.normal(size=(3, 50, 32))


def counts(encode, rows=range(50), **options):
    report = leak_check(encode, rows, **options)
    assert report.passed == (not any((report.repeated, report.partner, report.labels, report.batch)))
    assert report.queries == len(rows)
    return report.repeated, report.partner, report.labels, report.batch, report.near_zero


def test_a_model_that_sees_the_query_alone_passes():
    assert counts(lambda rows, partners, labels: np.tanh(IMAGES[rows] @ TEXTS[:32])) == (0, 0, 0, 0, 0)
    assert counts(lambda rows, partners, labels: torch.from_numpy(IMAGES[rows])) == (0, 0, 0, 0, 0)
    assert counts(lambda rows, partners, labels: pack(IMAGES[rows] > 0)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("form", [lambda codes: codes, lambda codes: pack(codes >= 0), torch.from_numpy])
@pytest.mark.parametrize(
    ("encode", "found"),
    [
        (lambda rows, partners, labels: IMAGES[rows] + TEXTS[partners], (0, 50, 0, 0, 0)),
        (lambda rows, partners, labels: IMAGES[rows] + LABELS[labels], (0, 0, 50, 0, 0)),
        (lambda rows, partners, labels: IMAGES[rows] - IMAGES[rows].mean(axis=0) * 2, (0, 0, 0, 50, 0)),
    ],
)
def test_what_a_query_is_fused_with_is_named(form, encode, found):
    assert counts(lambda *rows: form(encode(*rows)), batch_size=10) == found


def test_a_partner_that_moves_single_bits_is_found():
    """A thousandth of the text changes few bits, and tiny values count: the arithmetic of the query is the same."""
    few = counts(lambda rows, partners, labels: IMAGES[rows] + 1e-3 * TEXTS[partners])
    assert 0 < few[1] < 50
    sign = np.sign(TEXTS[:, :1])
    tiny = counts(lambda rows, partners, labels: 1e-9 * sign[partners])
    assert tiny == counts(lambda rows, partners, labels: sign[partners])
    assert tiny[1] > 0


def test_a_model_that_is_random_is_told_from_one_that_leaks():
    report = leak_check(lambda rows, partners, labels: RNG.normal(size=(len(rows), 32)), range(50))
    assert report.repeated == 50
    assert "LEAK: of 50 codes changed with repeated 50" in str(report)


def test_rounding_near_zero_is_counted_apart():
    codes = IMAGES.copy()
    codes[:7, 3] = 1e-8  # and the size of the batch decides about its sign
    assert counts(lambda rows, *others: codes[rows] - 1e-7 * (len(rows) < 20), batch_size=25) == (0, 0, 0, 0, 7)
    assert counts(lambda rows, *others: codes[rows] - 1e-3 * (len(rows) < 20), batch_size=25)[3] >= 7
    packed = counts(lambda rows, *others: pack(codes[rows] - 1e-7 * (len(rows) < 20) >= 0), batch_size=25)
    assert packed == (0, 0, 0, 7, 0)  # bits alone do not tell


def test_rows_are_those_of_the_caller():
    asked = []

    def encode(rows, partners, labels):
        asked.append((rows, partners, labels))
        return IMAGES[rows]

    rows = np.array([40, 3, 17, 29, 8])
    assert counts(encode, rows, batch_size=2)[:4] == (0, 0, 0, 0)
    assert all(np.isin(one, rows).all() for call in asked for one in call)
    partner_pass = asked[6:9]  # three batches each: the first pass, the repeated one, then other partners
    for queries, partners, labels in partner_pass:
        assert (queries != partners).all()
        assert (queries == labels).all()
    assert np.concatenate([call[0] for call in partner_pass]).tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("encode", "rows", "options", "message"),
    [
        (lambda *rows: IMAGES[rows[0]], [3], {}, "rows: 1 of shape"),
        (lambda *rows: IMAGES[rows[0]], [3, 3], {}, "rows: 1 of shape"),
        (lambda *rows: IMAGES[rows[0]], [3, 4], {"batch_size": 1}, "batch_size: 1"),
        (lambda *rows: IMAGES[:1], [3, 4], {}, r"encode: gave shape \(1, 32\) for 2 rows"),
    ],
)
def test_bad_input_is_one_clear_line(encode, rows, options, message):
    with pytest.raises(InputError, match=message):
        leak_check(encode, rows, **options)
