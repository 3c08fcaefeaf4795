"""The sublinear structures: the answers of a stable sort, whatever the codes are."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from math_hash.hamming import choice, scan
from math_hash.hamming.buckets import Balls, DistinctCodes
from math_hash.hamming.codes import as_planes, hamming_distance, pack
from math_hash.hamming.substring_tables import SubstringTables

CASES = int(os.environ.get("MATH_HASH_CASES", "200"))  # of the property; 10000 takes some minutes


def draw_codes(rng, n, k_bits, kind):
    """Packed codes: structureless, few distinct ones, around centers, or with bits that are nearly always the same."""
    if kind == "centers":
        centers = rng.random((1 + n // 20, k_bits)) < 0.5
        return pack(centers[rng.integers(0, len(centers), n)] ^ (rng.random((n, k_bits)) < 0.1))
    if kind == "duplicates":
        few = rng.random((1 + n // 9, k_bits)) < 0.5
        return pack(few[rng.integers(0, len(few), n)])
    return pack(rng.random((n, k_bits)) < (0.5 if kind == "structureless" else rng.random(k_bits) ** 3))


def plain(query, codes, alive, top_k, radius):
    """Rows and distances by a stable sort of all of them."""
    distances = hamming_distance(query[None], codes)[0]
    order = alive[np.argsort(distances[alive], kind="stable")]
    order = order[distances[order] <= radius][:top_k]
    return order, distances[order]


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    k_bits=st.integers(1, 130),
    kind=st.sampled_from(["structureless", "duplicates", "centers", "unbalanced"]),
    dead_share=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    budget=st.sampled_from([0, 30, 2**40]),
    data=st.data(),
)
def test_each_structure_gives_the_order_of_a_stable_sort(seed, n, k_bits, kind, dead_share, budget, data):
    rng = np.random.default_rng(seed)
    codes = draw_codes(rng, n, k_bits, kind)
    others = draw_codes(rng, 2, k_bits, "structureless")
    queries = np.concatenate([codes[rng.integers(0, n, 2)], others])
    dead = rng.random(n) < dead_share if dead_share else None
    alive = np.arange(n) if dead is None else np.flatnonzero(~dead)
    top_k, radius = data.draw(st.integers(1, n + 3)), data.draw(st.integers(0, k_bits + 1))
    planes = as_planes(codes)
    kinds = [SubstringTables, DistinctCodes] + [Balls] * (k_bits <= 12)
    for built in [kind.build(planes, k_bits) for kind in kinds]:
        built.budget = budget
        rows, distances = built.nearest(queries, top_k, dead)
        assert rows.shape == distances.shape == (len(queries), min(top_k, n))
        for q, query in enumerate(queries):
            right, right_distances = plain(query, codes, alive, top_k, k_bits)
            assert (rows[q, : len(right)] == right).all()
            assert (distances[q, : len(right)] == right_distances).all()
            assert (rows[q, len(right) :] == -1).all()
            assert (distances[q, len(right) :] == 65535).all()
            near, near_distances = built.within(query, radius, dead)
            right, right_distances = plain(query, codes, alive, n, radius)
            assert near.tolist() == right.tolist()
            assert near_distances.tolist() == right_distances.tolist()


@pytest.mark.parametrize("name", ["bucket", "mih"])
@pytest.mark.parametrize("k_bits", [14, 64])
def test_large_answers_with_many_ties_equal_the_scan(name, k_bits):
    """Answers that outgrow the buffers, in batches that several threads share."""
    rng = np.random.default_rng(k_bits)
    codes = draw_codes(rng, 30_000, k_bits, "centers")
    codes[rng.random(30_000) < 0.3] = codes[7]
    planes, queries = as_planes(codes), codes[:80]
    built, dead = choice.build(planes, k_bits, name), rng.random(30_000) < 0.1
    built.budget = 2**40
    for top_k in (1, 100, 3000, 30_000):
        some = queries if top_k < 1000 else queries[6:9]
        for mine, right in zip(
            built.nearest(some, top_k, dead), scan.nearest(some, planes, k_bits, top_k, dead), strict=True
        ):
            assert (mine == right).all()


def test_the_structure_is_chosen_from_the_codes():
    rng = np.random.default_rng(0)
    centers = rng.random((2000, 64)) < 0.5
    near_centers = centers[rng.integers(0, 2000, 300_000)] ^ (rng.random((300_000, 64)) < 0.01)
    for bits, wanted in (
        (rng.random((20_000, 14)) < 0.5, "bucket"),  # short
        (centers[rng.integers(0, 40, 20_000)], "bucket"),  # few distinct
        (near_centers, "mih"),
        (rng.random((20_000, 64)) < 0.5, None),
        (centers[rng.integers(0, 40, 500)], None),  # too few rows to be worth it
    ):
        planes = as_planes(pack(bits))
        built = choice.build(planes, bits.shape[1])
        assert (built.name if built else None) == wanted
        if built:
            again = choice.read(built.name, planes, bits.shape[1], built.arrays)
            queries = pack(bits[:20])
            assert (again.nearest(queries, 9)[0] == scan.nearest(queries, planes, bits.shape[1], 9)[0]).all()
            assert sum(array.nbytes for array in built.arrays.values()) <= 16 * len(bits)
            # a query far from all rows is given up after a quarter of the time of a scan
            assert again.cost(pack(~bits[:20]), 100) <= 1.3 * len(bits)
