"""The join of codes within a radius, and groups of near duplicates, compared with all distances."""

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from math_hash.errors import InputError
from math_hash.hamming import join
from math_hash.hamming.codes import hamming_distance, pack
from math_hash.hamming.groups import near_duplicates


@st.composite
def codes_and_radius(draw):
    """Codes around a few centers, many of them equal, from 1 to 130 bits."""
    k_bits = draw(st.integers(1, 130))
    rows, centers = draw(st.integers(0, 120)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = (rng.random((centers, k_bits)) < 0.5)[rng.integers(0, centers, rows)]
    bits ^= rng.random((rows, k_bits)) < draw(st.sampled_from([0, 0.02, 0.1]))
    return pack(bits), k_bits, draw(st.integers(0, min(8, k_bits)))


def as_list(chunks):
    chunks = list(chunks)
    assert all(0 < len(chunk.first) <= join.CHUNK for chunk in chunks)
    return sorted(row for chunk in chunks for row in zip(*(values.tolist() for values in chunk), strict=True))


def plain_pairs(distances, radius, first_row=lambda i: 0):
    return [
        (i, j, int(d))
        for i, row in enumerate(distances)
        for j, d in enumerate(row)
        if j >= first_row(i) and d <= radius
    ]


@settings(max_examples=50, deadline=None)
@given(codes_and_radius(), st.sampled_from([1, 7, 1 << 20]), st.sampled_from([3, 1 << 28]))
def test_the_join_equals_brute_force(drawn, chunk, work):
    """Also where it stops and goes on after every few pairs or comparisons."""
    codes, k_bits, radius = drawn
    distances, half = hamming_distance(codes, codes), len(codes) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "CHUNK", chunk)
        patch.setattr(join, "_WORK", work)
        pairs = as_list(join.pairs_within(codes, k_bits, radius))
        crossing = as_list(join.pairs_between(codes[:half], codes[half:], k_bits, radius))
    assert pairs == plain_pairs(distances, radius, lambda i: i + 1)
    assert crossing == plain_pairs(distances[:half, half:], radius)


@settings(max_examples=50, deadline=None)
@given(codes_and_radius())
def test_groups_are_the_connected_components(drawn):
    codes, k_bits, radius = drawn
    distances = hamming_distance(codes, codes)
    labels = connected_components(distances <= radius, directed=False)[1] if len(codes) else np.empty(0, int)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    wanted = sorted((rows for rows in members if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))
    groups = near_duplicates(codes, k_bits, radius)
    for (rows, near), right in zip(groups, wanted, strict=True):
        order = np.argsort(distances[right[0], right], kind="stable")
        assert rows.tolist() == right[order].tolist()
        assert near.tolist() == distances[right[0], right][order].tolist()


def real_codes():
    """Signs of projections of the labels and the tags of 20,015 real rows: 64 bits, clustered, many of them equal."""
    folder = SHARED / "mirflickr25k-lists"
    if not folder.is_dir():
        pytest.skip(f"no real labels in {folder}")
    labels = np.loadtxt(folder / "all_labels.txt", np.float32)
    tags = [line.split(",") for line in (folder / "all_tags.txt").read_text().splitlines()]
    rng = np.random.default_rng(0)
    vectors = {tag: rng.normal(size=64) for tag in sorted({tag for row in tags for tag in row})}
    projected = labels @ rng.normal(size=(labels.shape[1], 64)) * 3
    return pack(projected + np.array([np.mean([vectors[tag] for tag in row], axis=0) for row in tags]) >= 0)


def test_the_join_of_real_codes_equals_brute_force():
    codes = real_codes()
    words, blocks = codes.view(np.uint64)[:, 0], []
    for start in range(0, len(words), 500):
        distances = np.bitwise_count(words[start : start + 500, None] ^ words[start:])
        first, second = np.divmod(np.flatnonzero(distances <= 4), distances.shape[1])
        kept = first < second
        first, second = first[kept], second[kept]
        blocks.append(np.stack([first + start, second + start, distances[first, second]]))
    wanted = np.concatenate(blocks, axis=1)
    for radius in (0, 2, 4):
        pairs = np.concatenate([np.stack(chunk) for chunk in join.pairs_within(codes, 64, radius)], axis=1)
        assert pairs.shape[1] > 10_000
        assert (pairs[:, np.lexsort(pairs[1::-1])] == wanted[:, wanted[2] <= radius]).all()


def test_many_equal_codes_are_one_group_without_their_pairs():
    codes = np.zeros((300_000, 8), np.uint8)  # 45 thousand million pairs
    codes[7] = 255
    [(rows, distances)] = near_duplicates(codes, 64, 2)
    assert len(rows) == 299_999
    assert not distances.any()
    assert len(next(join.pairs_within(codes, 64, 2)).first) <= join.CHUNK


@pytest.mark.parametrize("radius", [-1, 17])
def test_a_radius_out_of_range_is_refused(radius):
    codes = np.zeros((2, 2), np.uint8)
    for call in (join.pairs_within, near_duplicates, lambda codes, *others: join.pairs_between(codes, codes, *others)):
        with pytest.raises(InputError, match=f"radius {radius}; expected 0 to 16"):
            call(codes, 16, radius)
