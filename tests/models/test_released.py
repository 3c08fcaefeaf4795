"""Released MATH checkpoints: their names, their codes, padding unmasked."""

import numpy as np
import pytest
import torch
from conftest import tiny_clip
from encoders.plain_text_tower import TEXTS, plain_text_tower
from methods.plain_local_head import per_token_per_bit
from models.released_weights import BITS, WIDTH, released_state
from PIL import Image

import math_hash
from math_hash import InputError
from math_hash.methods.math import LocalHead

K, D = BITS, WIDTH


def plain_code(state, letter, tokens, pooled):
    """The continuous code by the release's formulas, from the checkpoint's own names."""
    x = pooled
    for n in range(2):
        p = f"hash.gcl_{letter}.mlp."
        inner = torch.nn.functional.layer_norm(x, (D,), state[f"{p}lns.{n}.weight"], state[f"{p}lns.{n}.bias"])
        inner = torch.nn.functional.gelu(inner @ state[f"{p}mlps.{n}.0.weight"].T + state[f"{p}mlps.{n}.0.bias"])
        x = x + inner @ state[f"{p}mlps.{n}.3.weight"].T + state[f"{p}mlps.{n}.3.bias"]
    h_global = torch.tanh(x @ state[f"hash.gcl_{letter}.common_concept_embedding.weight"].T)
    head = LocalHead(D, K, 2)
    prefix = f"hash.lct_{letter}."
    head.transformer.load_state_dict(
        {n.removeprefix(prefix + "transformer."): v for n, v in state.items() if n.startswith(prefix + "transformer.")}
    )
    head.projection.weight.data = torch.cat([state[f"{prefix}hashing.fc_list.{bit}.weight"] for bit in range(K)])
    head.projection.bias.data = torch.cat([state[f"{prefix}hashing.fc_list.{bit}.bias"] for bit in range(K)])
    everything = torch.ones(tokens.shape[:2], dtype=torch.bool)
    return 0.5 * h_global + 0.5 * per_token_per_bit(head, tokens, everything)


@pytest.fixture
def released(tmp_path):
    clip = tiny_clip()
    clip.positional_embedding.data = torch.cat([clip.positional_embedding.data, torch.randn(16, D)])  # 40 >= 32
    state = released_state(clip)
    torch.save(state, tmp_path / "model.pth")
    return tmp_path / "model.pth", clip, state


def test_released_checkpoints_give_the_released_codes(released):
    path, clip, state = released
    model = math_hash.load_model(path)
    assert (model.k_bits, model.method, model.max_words) == (K, "MATH", 32)
    pictures = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8)) for i in range(3)]
    transform = model.encoder.image_transform
    with torch.no_grad():
        visual = clip.visual
        states = visual.transformer(visual._embeds(torch.stack([transform(picture) for picture in pictures])))
        tokens = visual.ln_post(states) @ visual.proj
        image = plain_code(state, "i", tokens[:, 1:], tokens[:, 0])
        ids = model.encoder.tokenize(TEXTS, 32)
        tokens = plain_text_tower(clip, ids)
        text = plain_code(state, "t", tokens, tokens[range(len(ids)), ids.argmax(1)])
    assert np.allclose(model.encode_image(pictures, output="continuous"), image.numpy(), atol=1e-5)
    assert np.allclose(model.encode_text(TEXTS, output="continuous"), text.numpy(), atol=1e-5)
    assert (model.encode_text(TEXTS) == np.packbits(text.numpy() >= 0, axis=1)).all()
    assert model.encode_image(pictures).shape == (3, 3)


def test_a_released_model_can_be_saved_and_loaded_like_any_other(released, tmp_path):
    model = math_hash.load_model(released[0])
    model.save(tmp_path / "saved")
    again = math_hash.load_model(tmp_path / "saved")
    assert (again.encode_text(TEXTS, output="continuous") == model.encode_text(TEXTS, output="continuous")).all()


def test_checkpoints_of_something_else_are_refused(released, tmp_path):
    path, _, state = released
    torch.save({name: value for name, value in state.items() if name.startswith("clip.")}, path)
    with pytest.raises(InputError, match="not a released checkpoint of MATH"):
        math_hash.load_model(path)
    torch.save({n: v for n, v in state.items() if "lct_t.hashing.fc_list.3" not in n}, path)
    with pytest.raises(InputError, match="do not fit their method"):
        math_hash.load_model(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a readable weight file"):
        math_hash.load_model(path)
    with pytest.raises(InputError, match="no such model"):
        math_hash.load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no config\.json"):
        math_hash.load_model(tmp_path)
