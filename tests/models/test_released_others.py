"""Released checkpoints of MITH, DCHMT and DSPH: their names and shapes, and their codes."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_clip
from encoders.plain_text_tower import plain_text_tower
from models.released_weights import BITS, WIDTH, released_state
from PIL import Image
from released.fixtures import FOLDER

import math_hash
from math_hash.models import released

TEXTS = ["two dogs", "a much longer text about the sea and the sky", ""]


def states(clip):
    """Checkpoints of each method with a tiny CLIP and random values."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return 0.3 * torch.randn(*shape, generator=generator)

    whole = released_state(clip)
    weights = {name: value for name, value in whole.items() if name.startswith("clip.")}
    mith = {name: value for name, value in whole.items() if "_l." not in name}
    dchmt, dsph = dict(weights), dict(weights)
    for stream, m in (("image", "img"), ("text", "txt")):
        mith |= {f"hash.{m}_concept_proj.weight": draw(WIDTH, WIDTH), f"hash.{m}_concept_proj.bias": draw(WIDTH)}
        mith[f"hash.lct_{stream[0]}.position.pe"] = torch.zeros(BITS, 1, WIDTH)
        dsph |= {f"{stream}_hash.fc.weight": draw(BITS, WIDTH), f"{stream}_hash.fc.bias": draw(BITS)}
        dchmt |= {f"{stream}_hash.fc.weight": draw(128, WIDTH), f"{stream}_hash.fc.bias": draw(128)}
        for bit in range(BITS):
            names = f"{stream}_hash.hash_list.{bit}.weight", f"{stream}_hash.hash_list.{bit}.bias"
            dchmt |= dict(zip(names, (draw(2, 128), draw(2)), strict=True))
    return {"MITH": mith, "DCHMT": dchmt, "DSPH": dsph}


def plain_codes(method, state, stream, pooled):
    """The release's bits, -1/+1 (b, k), of heads on pooled vectors."""
    vectors = pooled @ state[f"{stream}_hash.fc.weight"].T + state[f"{stream}_hash.fc.bias"]
    if method == "DSPH":
        return torch.tanh(vectors).sign()
    bits = [
        torch.relu(vectors) @ state[f"{stream}_hash.hash_list.{bit}.weight"].T
        + state[f"{stream}_hash.hash_list.{bit}.bias"]
        for bit in range(BITS)
    ]
    return torch.stack(bits, dim=1).argmax(dim=2) * 2 - 1


@pytest.fixture
def clip():
    clip = tiny_clip()
    clip.positional_embedding.data = torch.cat([clip.positional_embedding.data, torch.randn(16, WIDTH)])
    return clip


@pytest.mark.parametrize("method", ["MITH", "DCHMT", "DSPH"])
def test_they_open_with_their_codes(method, clip, tmp_path):
    state = states(clip)[method]
    torch.save(state, tmp_path / "model.pth")
    model = math_hash.load_model(tmp_path / "model.pth")
    assert (model.method, model.k_bits, model.max_words) == (method, BITS, 32)
    pictures = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8)) for i in range(5)]
    codes = {"image": model.encode_image(pictures, output="bits"), "text": model.encode_text(TEXTS, output="bits")}
    assert codes["image"].shape == (5, BITS)
    if method != "MITH":  # MITH's head is compared in tests/test_released_objectives.py
        pixels = torch.stack([model.encoder.image_transform(picture) for picture in pictures])
        ids = model.encoder.tokenize(TEXTS, 32)
        with torch.no_grad():
            last = plain_text_tower(clip, ids)[range(len(ids)), ids.argmax(1)]
            pooled = {"image": clip.encode_image(pixels), "text": last}
        for stream, vectors in pooled.items():
            expected = plain_codes(method, state, stream, vectors).numpy() > 0
            assert (codes[stream] > 0).tolist() == expected.tolist()
    model.save(tmp_path / "saved")
    again = math_hash.load_model(tmp_path / "saved")
    assert (again.encode_image(pictures) == model.encode_image(pictures)).all()


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is absent")
@pytest.mark.parametrize("method", ["MITH", "DCHMT", "DSPH"])
def test_checkpoints_of_the_released_names_and_shapes_open(method, monkeypatch, tmp_path):
    shapes = json.loads((FOLDER / f"{method}.checkpoint.json").read_text())
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    monkeypatch.setattr(released, "read_state_dict", lambda path: state)
    model = released.read_released(tmp_path / "model.pth")
    assert (model.method, model.k_bits, model.encoder.width) == (method, 16, 512)
