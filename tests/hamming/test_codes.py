import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from math_hash import InputError
from math_hash.hamming.codes import as_signs, as_words, binarize, hamming_distance, pack, unpack


def test_zero_counts_as_plus_one():
    assert as_signs(binarize(np.array([[0.0, -0.0, -1e-9, 0.5]]))).tolist() == [[1, 1, -1, 1]]


def test_nan_is_refused_with_its_row():
    with pytest.raises(InputError, match="row 1"):
        binarize(np.array([[0.0], [np.nan]]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 130))
def test_packing_keeps_bits_and_distances_and_pads_with_zeros(seed, k_bits):
    bits = np.random.default_rng(seed).random((6, k_bits)) < 0.5
    packed = pack(bits)
    assert packed.shape == (6, -(-k_bits // 8))
    assert (unpack(packed, k_bits) == bits).all()
    if k_bits % 8:
        assert (packed[:, -1] & (0xFF >> k_bits % 8) == 0).all()
    plain = (bits[:, None] != bits[None]).sum(-1)
    assert (hamming_distance(packed, packed) == plain).all()
    words = as_words(packed)
    assert (np.bitwise_count(words[:, None] ^ words[None]).sum(-1) == plain).all()


@pytest.mark.parametrize("codes", [np.array([[-1, 1]]), np.array([[0.3, 1]]), np.array([[np.nan]])])
def test_pack_takes_bits_alone(codes):
    with pytest.raises(InputError, match="bits have values other than 0 and 1"):
        pack(codes)


def test_unpack_refuses_another_length():
    with pytest.raises(InputError, match="16 bits"):
        unpack(np.zeros((2, 3), np.uint8), 16)
