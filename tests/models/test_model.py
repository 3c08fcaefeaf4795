"""`load_model`, `encode_image` and `encode_text`, on a saved model."""

import re

import numpy as np
import pytest
import torch
from conftest import DEVICES, TINY
from PIL import Image

import math_hash
from math_hash import InputError
from math_hash.encoders import ClipEncoder, PrecomputedEncoder
from math_hash.hamming.codes import pack
from math_hash.models.model import HashModel

TEXTS = ["red", "", "green and blue"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    HashModel(ClipEncoder(TINY), "MATH", 12, {"transformer_layers": 1}, 12).save(folder)
    return folder


@pytest.mark.parametrize("device", DEVICES)
def test_forms_of_input_and_output_agree(saved, tmp_path, device):
    model = math_hash.load_model(saved, device=device)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    continuous = model.encode_image([picture], output="continuous")
    assert continuous.shape == (1, 12)
    assert continuous.dtype == np.float32
    assert np.abs(continuous).max() < 1
    bits = model.encode_image([tmp_path / "a.png"], output="bits")
    assert (bits == (continuous >= 0)).all()
    assert (model.encode_image([str(tmp_path / "a.png")]) == pack(bits)).all()
    for form in (tensor, [tensor[0]], np.array(picture)[None], model.encoder.image_transform(picture)[None]):
        assert np.allclose(model.encode_image(form, output="continuous"), continuous, atol=1e-5)
    assert model.encode_text(TEXTS).shape == (3, 2)
    assert model.encode_text([]).shape == (0, 2)


def test_arrays_are_resized_as_pictures_are(saved):
    model = math_hash.load_model(saved)
    arrays = np.random.default_rng(0).integers(0, 255, (3, 50, 41, 3), np.uint8)
    wanted = model.encode_image([Image.fromarray(array) for array in arrays], output="continuous")
    for form in (arrays, list(arrays)):
        assert (model.encode_image(form, output="continuous") == wanted).all()


def test_a_model_is_shown_in_one_line(saved):
    shown = repr(math_hash.load_model(saved).with_bits(7))
    assert re.fullmatch(r"HashModel\(MATH, 7 bits, ClipEncoder, [\d.]+ M parameters, float32 on cpu\)", shown)


def test_progress_is_shown_if_asked_for_or_if_it_takes_long_and_somebody_sees_it(saved, capsys, monkeypatch):
    model = math_hash.load_model(saved)

    def shown(**options):
        model.encode_text(TEXTS, batch_size=2, **options)
        return capsys.readouterr().err

    assert re.search(r"encoding texts: 100%.* 3/3 ", shown(progress=True))
    assert shown() == ""
    monkeypatch.setattr("math_hash.models.code_model.is_watched", lambda: True)
    assert shown() == ""
    monkeypatch.setattr("math_hash.models.code_model._DELAY", 1e-9)
    assert "3/3" in shown()
    assert shown(progress=False) == ""


def test_batch_size_does_not_matter(saved):
    model = math_hash.load_model(saved)
    texts = [f"{color} {number}" for color in ("red", "green") for number in range(20)]
    whole = model.encode_text(texts, output="continuous")
    for size in (1, 7, 64):
        assert np.allclose(model.encode_text(texts, batch_size=size, output="continuous"), whole, atol=1e-5)


def test_wrong_input_is_named(saved):
    model = math_hash.load_model(saved)
    with pytest.raises(InputError, match="single one; write"):
        model.encode_text("red")
    with pytest.raises(InputError, match="single one; write"):
        model.encode_image("a.png")
    with pytest.raises(InputError, match="single one; write"):
        model.encode_image(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"float64 \(20, 20, 3\); expected uint8 \(h, w, 3\)"):
        model.encode_image([np.zeros((20, 20, 3))])
    with pytest.raises(InputError, match="int; expected PIL images"):
        model.encode_image([7])
    with pytest.raises(InputError, match="no such picture"):
        model.encode_image(["nowhere.png"])
    with pytest.raises(InputError, match="expected uint8"):
        model.encode_image(torch.zeros(2, 3, 20, 20))
    with pytest.raises(InputError, match="choose from packed, bits, continuous, vector"):
        model.encode_text(TEXTS, output="hex")


def test_damaged_folders_are_named(saved, tmp_path):
    weights, config = (saved / "model.safetensors").read_bytes(), (saved / "config.json").read_text()
    for name, content, message in (
        ("model.safetensors", weights[:1000], "damaged"),
        ("model.safetensors", None, "missing"),
        ("config.json", config[:50].encode(), "damaged"),
        ("config.json", config.replace('"k_bits": 12', '"k_bits": 13').encode(), "of another model"),
    ):
        (tmp_path / "model.safetensors").write_bytes(weights)
        (tmp_path / "config.json").write_text(config)
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            math_hash.load_model(tmp_path)


def test_a_model_of_stored_features_refuses_pictures(tmp_path):
    HashModel(PrecomputedEncoder(80, 64), "MATH", 12, {}, 12).save(tmp_path)
    model = math_hash.load_model(tmp_path)
    with pytest.raises(InputError, match="stored features"):
        model.encode_text(TEXTS)
    stored = {"tokens": torch.randn(2, 5, 80), "pooled": torch.randn(2, 80)}
    assert model.hash_image(stored).shape == (2, 12)
