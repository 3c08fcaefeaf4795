"""Models that are fitted to pictures and words, against the same bits in plain NumPy."""

import numpy as np
import pytest
import torch

import math_hash
from math_hash import InputError
from math_hash.encoders import open_encoder
from math_hash.models.caption_words import caption_words
from math_hash.models.without_training import BITS, model_without_training

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [torch.randint(0, 256, (20, 3, 32, 32), generator=GENERATOR, dtype=torch.uint8) for _ in range(3)]
TEXTS = ["a dog", "two people on a beach", "snow"]


@pytest.mark.parametrize("bits_from", BITS)
def test_vectors_are_centered_by_pictures_and_by_words_and_turned_into_bits(bits_from, clip_file, tmp_path):
    encoder = open_encoder(str(clip_file), resolution=32)
    model_without_training(encoder, bits_from, 40, iter(BATCHES)).save(tmp_path / "model")
    model = math_hash.load_model(tmp_path / "model")
    pictures = torch.cat(BATCHES)
    image, text = model.encode_image(pictures, output="vector"), model.encode_text(TEXTS, output="vector")
    words = model.encode_text(caption_words(), output="vector")
    centered = np.concatenate([image - image.mean(axis=0), text - words.mean(axis=0)])
    projected = centered @ model.head.projection.numpy()
    codes = np.concatenate([model.encode_image(pictures, output="bits"), model.encode_text(TEXTS, output="bits")])
    clear = np.abs(projected) > 1e-5
    assert (codes == (projected >= 0))[clear].all()
    projection = model.head.projection.numpy()
    assert np.allclose(projection.T @ projection, np.eye(40), atol=1e-5)  # no direction counts more than another
    if bits_from == "sign":
        assert (projection == np.eye(64)[:, :40]).all()
    else:  # the map keeps what 40 principal directions keep
        both = np.concatenate([image - image.mean(axis=0), words - words.mean(axis=0)])
        kept = np.square(np.linalg.svd(both, compute_uv=False)[:40]).sum()
        assert np.square(both @ projection).sum() == pytest.approx(kept, rel=1e-4)


def test_too_many_bits_and_no_pictures_say_so(clip_file):
    encoder = open_encoder(str(clip_file), resolution=32)
    with pytest.raises(InputError, match="no more than 64 directions"):
        model_without_training(encoder, "sign", 65, BATCHES)
    with pytest.raises(InputError, match="no picture that can be read"):
        model_without_training(encoder, "ITQ", 64, [])
