"""The scan over packed codes."""

import numpy as np
import pytest

from math_hash.hamming import plain, scan
from math_hash.hamming.codes import as_planes, hamming_distance, pack


@pytest.mark.parametrize("k_bits", [1, 16, 130])
def test_few_codes_are_searched_as_by_the_scan(k_bits):
    rng = np.random.default_rng(k_bits)
    codes, queries = (pack(rng.random((rows, k_bits)) < 0.5) for rows in (50, 7))
    planes, most = as_planes(codes), rng.random(50) < 0.9
    for dead in (None, most, np.ones(50, bool)):
        for top_k in (1, 10, 90):
            wanted = scan.nearest(queries, planes, k_bits, top_k, dead)
            for got, right in zip(plain.nearest(queries, planes, top_k, dead), wanted, strict=True):
                assert (got == right).all()
                assert got.dtype == right.dtype
        for radius in (0, 8, 200):
            wanted = scan.within(queries[0], planes, radius, dead)
            for got, right in zip(plain.within(queries[0], planes, radius, dead), wanted, strict=True):
                assert got.tolist() == right.tolist()


@pytest.mark.parametrize("k_bits", [1, 16, 64, 65, 200])
def test_the_scan_equals_a_stable_sort(k_bits):
    rng = np.random.default_rng(k_bits)
    codes = pack(rng.random((5000, k_bits)) < rng.random(k_bits))
    queries, dead = codes[rng.permutation(5000)[:40]], rng.random(5000) < 0.2
    distances, planes = hamming_distance(queries, codes), as_planes(codes)
    for top_k in (1, 10, 700, 5000):
        for some in (queries, queries[:1]):
            rows, near = scan.nearest(some, planes, k_bits, top_k)
            order = np.argsort(distances[: len(some)], axis=1, kind="stable")[:, :top_k]
            assert (rows == order).all()
            assert (near == np.take_along_axis(distances[: len(some)], order, axis=1)).all()
    rows, _ = scan.nearest(queries, planes, k_bits, 5000, dead)
    alive = np.flatnonzero(~dead)
    for query in range(40):
        order = alive[np.argsort(distances[query, alive], kind="stable")]
        assert (rows[query, : len(alive)] == order).all()
        assert (rows[query, len(alive) :] == -1).all()
        for radius in (0, k_bits // 3, k_bits):
            rows_within, near = scan.within(queries[query], planes, radius, dead)
            assert (rows_within == order[distances[query, order] <= radius]).all()
            assert (near == distances[query, rows_within]).all()


@pytest.mark.parametrize("k_bits", [16, 96])
def test_ties_keep_their_order_over_stretches_and_parts(k_bits):
    rng = np.random.default_rng(k_bits)
    codes = pack(rng.random((300_001, k_bits)) < 0.5)
    codes[200_000:] = codes[:100_001]  # each distance occurs again in a later stretch
    planes = as_planes(codes)
    for queries in (codes[-2:], codes[:20]):
        rows, near = scan.nearest(queries, planes, k_bits, 150)
        for query in (0, -1):
            distances = hamming_distance(queries[query][None], codes)[0]
            assert (rows[query] == np.argsort(distances, kind="stable")[:150]).all()
            assert (near[query] == distances[rows[query]]).all()
