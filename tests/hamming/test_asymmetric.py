"""Asymmetric scores against loops over bits, and against Hamming distances."""

import numpy as np
import pytest

from math_hash.errors import InputError
from math_hash.hamming.asymmetric import asymmetric_scores
from math_hash.hamming.codes import binarize, hamming_distance, pack


@pytest.mark.parametrize("k_bits", [1, 7, 16, 65])
def test_scores_are_inner_products_with_signs(k_bits):
    random = np.random.default_rng(k_bits)
    queries, bits = random.uniform(-1, 1, (3, k_bits)), random.integers(0, 2, (9, k_bits))
    scores = asymmetric_scores(queries, pack(bits))
    assert (scores.shape, scores.dtype) == ((3, 9), np.float32)
    for q in range(3):
        for row in range(9):
            wanted = sum(value if bit else -value for value, bit in zip(queries[q], bits[row], strict=True))
            assert scores[q, row] == pytest.approx(wanted, abs=1e-5)
            weights = sum(abs(v) for v, bit in zip(queries[q], bits[row], strict=True) if (v >= 0) != bit)
            assert scores[q, row] == pytest.approx(np.abs(queries[q]).sum() - 2 * weights, abs=1e-5)


def test_equal_weights_give_the_order_of_hamming_distances():
    random = np.random.default_rng(0)
    queries, rows = np.sign(random.standard_normal((4, 24))), pack(random.integers(0, 2, (50, 24)))
    assert (asymmetric_scores(queries, rows) == 24 - 2 * hamming_distance(pack(binarize(queries)), rows)).all()


def test_equal_codes_have_exactly_equal_scores():
    random = np.random.default_rng(1)
    row = random.integers(0, 256, 16, dtype=np.uint8)
    scores = asymmetric_scores(random.uniform(-1, 1, (3, 128)), np.tile(row, (1001, 1)))
    assert (scores == scores[:, :1]).all()


@pytest.mark.parametrize(("queries", "width"), [((1, 24), 2), ((24,), 3)])
def test_other_shapes_are_refused(queries, width):
    with pytest.raises(InputError, match=r"expected \(q, k\) and \(n, ceil"):
        asymmetric_scores(np.ones(queries), np.zeros((1, width), np.uint8))
