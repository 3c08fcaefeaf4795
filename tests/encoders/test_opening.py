"""From names, folders and weight files to encoders that are not CLIP's own two towers."""

import json
import re
import sys
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch
from conftest import TINY
from encoders.plain_text_tower import TEXTS
from encoders.tiny_architectures import ARCHITECTURES, WITH_FILES, hugging_face, siglip, tiny_encoder
from safetensors.torch import save_file

from math_hash import InputError
from math_hash.data import Needs
from math_hash.encoders import ClipEncoder, PrecomputedEncoder, build_encoder, named_architecture, open_encoder
from math_hash.encoders.hugging_face import fetch_text_config

SQUASH = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}


def folder_of(tmp_path, kind, **preprocessing):
    """A folder as open_clip's models have it on the hub, and the encoder whose weights are in it."""
    encoder = tiny_encoder(kind, tmp_path)
    content = {"model_cfg": encoder.architecture, "preprocess_cfg": preprocessing}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    state = {name: value.contiguous() for name, value in encoder.clip.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    return tmp_path, encoder


@pytest.mark.parametrize("kind", ["SigLIP", "XLM-RoBERTa", "MobileCLIP, not causal", "ResNet"])
def test_a_folder_has_all_that_an_encoder_needs(tmp_path, kind):
    folder, encoder = folder_of(tmp_path, kind, **SQUASH)
    opened = open_encoder("", str(folder), str(folder / "weights.safetensors"), 64).eval()
    ids = encoder.tokenize(TEXTS, 8)
    assert torch.equal(opened.tokenize(TEXTS, 8), ids)
    with torch.no_grad():
        assert torch.equal(opened.encode_text(ids).pooled, encoder.encode_text(ids).pooled)
    transform = opened.image_transform
    assert (transform.mean, transform.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (transform.interpolation, transform.resize_mode) == ("bilinear", "squash")
    assert opened.spec["resize_mode"] == "squash"
    assert opened.describe()["resize_mode"] == "squash"


def test_clips_own_towers_keep_the_releases_transform(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": SQUASH}))
    opened = open_encoder("", str(tmp_path), "none", 32)
    assert list(opened.spec) == ["kind", "architecture", "mean", "std"]
    assert opened.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("kind", ["SigLIP", "EVA", "Swin", "ConvNeXt"])
def test_another_resolution_resizes_the_published_weights(tmp_path, kind):
    folder, encoder = folder_of(tmp_path, kind)
    opened = open_encoder("", str(folder), str(folder / "weights.safetensors"), 96).eval()
    assert opened.resolution == opened.image_transform.resolution == 96
    encoder.clip.visual.set_input_size(96)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = encoder.clip.visual(images)
        assert torch.allclose(opened.encode_image(images, Needs(tokens=True)).pooled, expected, atol=1e-5)
    rebuilt = build_encoder(json.loads(json.dumps(opened.spec)))
    rebuilt.load_state_dict(opened.state_dict())
    with torch.no_grad():
        assert torch.allclose(rebuilt.eval().encode_image(images).pooled, expected, atol=1e-5)


def test_weights_of_a_whole_coca_lose_its_decoder(tmp_path):
    architecture = ARCHITECTURES["CoCa"]
    coca = open_clip.CoCa(**{name: value for name, value in architecture.items() if name != "custom_text"}).eval()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": architecture}))
    torch.save(coca.state_dict(), tmp_path / "weights.pt")
    encoder = open_encoder("", str(tmp_path), str(tmp_path / "weights.pt"), 64).eval()
    images, ids = torch.randn(2, 3, 64, 64), encoder.tokenize(TEXTS, 20)
    with torch.no_grad():
        assert torch.allclose(encoder.encode_image(images).pooled, coca.encode_image(images, False), atol=1e-5)
        assert torch.allclose(encoder.encode_text(ids).pooled, coca.encode_text(ids, False), atol=1e-5)


def test_an_input_smaller_than_one_patch_is_one_line():
    with pytest.raises(InputError, match="`resolution` 20 is less than the side of one patch, 32"):
        open_encoder("", "ViT-B-32", "none", resolution=20)


def test_a_tag_brings_weights_and_preprocessing(tmp_path, monkeypatch):
    published = tiny_encoder("SigLIP", tmp_path)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(published.architecture)))
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["webli"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: SQUASH)

    def create_model(name, pretrained, force_image_size):
        assert (name, pretrained, force_image_size) == ("ViT-Tiny-SigLIP", "webli", 64)
        published.clip.visual.preprocess_cfg = SQUASH
        return published.clip

    monkeypatch.setattr(open_clip, "create_model", create_model)
    encoder = open_encoder("", "ViT-Tiny-SigLIP", "webli", 64)
    assert encoder.image_transform.resize_mode == "squash"
    for name, value in published.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value)
    assert open_encoder("", "ViT-Tiny-SigLIP", "none", 64).image_transform.resize_mode == "squash"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))


def in_folder(tmp_path, architecture):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": architecture}))
    return str(tmp_path)


def test_without_network_a_missing_tokenizer_says_what_to_put_where(offline, tmp_path):
    architecture = siglip(tmp_path / "elsewhere")
    architecture["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
    with pytest.raises(InputError, match=r"timm/ViT-B-16-SigLIP.* `encoder`$") as raised:
        open_encoder("", in_folder(tmp_path, architecture), "none", 64)
    assert "\n" not in str(raised.value)


def test_without_network_a_missing_text_tower_says_what_to_put_where(offline, tmp_path):
    architecture = hugging_face(tmp_path)
    architecture["text_cfg"]["hf_model_name"] = "some/tower"
    folder = in_folder(tmp_path, architecture)
    with pytest.raises(InputError, match=rf"some/tower/resolve/main/config.json into {re.escape(folder)}/some/tower/"):
        open_encoder("", folder, "none", 64)
    (tmp_path / "some/tower").mkdir(parents=True)
    (tmp_path / "config.json").rename(tmp_path / "some/tower/config.json")
    assert open_encoder("", folder, "none", 64).stage_widths == (64, 32)


def test_where_transformers_is_missing_an_extra_is_named(tmp_path, monkeypatch):
    architecture = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "some/tokenizer"}}
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"some/tokenizer: needs `pip install 'math_hash\[transformers\]'`"):
        open_encoder("", in_folder(tmp_path, architecture), "none", 32)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("vision_cfg", {"timm_model_name": "hf-hub:someone/some-model"}),
        ("vision_cfg", {"timm_model_name": "test_vit", "timm_pool": "rot_attn"}),
        ("vision_cfg", {"timm_model_name": "no_such_model_at_all"}),
        ("vision_cfg", {"attentional_pool": "parallel"}),
        ("vision_cfg", {"pool_type": "none"}),
        ("vision_cfg", {"nonsense": 1}),
        ("text_cfg", {"pool_type": "none"}),
        ("text_cfg", {"nonsense": 1}),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(part, change):
    with pytest.raises(InputError, match="cannot be used") as raised:
        ClipEncoder({**TINY, part: {**TINY[part], **change}})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", sorted(set(open_clip.list_models())))
def test_every_model_of_open_clip_has_towers_here(name):
    from math_hash.encoders.architecture import check_architecture
    from math_hash.encoders.tokenizers import tokenizer_of

    architecture = named_architecture(name, 224)
    check_architecture(architecture)
    tokenizer_of(architecture["text_cfg"])


def test_the_description_of_clips_own_encoder_is_that_of_older_models():
    encoder = ClipEncoder(TINY)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = {"kind": "clip", "architecture": TINY, "mean": mean, "std": std}
    assert json.dumps(encoder.spec) == json.dumps(expected)
    expected = {"kind": "precomputed", "image_width": 8, "text_width": 6, "stage_widths": [3, 4]}
    assert json.dumps(PrecomputedEncoder(8, 6, (3, 4)).spec) == json.dumps(expected)
    assert encoder.describe() == {"architecture": TINY, "transform": [32, *mean, *std]}


def test_other_descriptions_are_refused():
    with pytest.raises(InputError, match="kind 'nonsense' is unknown"):
        build_encoder({"kind": "nonsense"})
    with pytest.raises(InputError, match="damaged or of another version"):
        build_encoder({"kind": "clip", "architecture": TINY, "mean": [0.5], "std": [0.5] * 3})
    with pytest.raises(InputError, match="damaged or of another version"):
        build_encoder({"kind": "precomputed", "width": 8})
    with pytest.raises(InputError, match="cannot be resized by 'nearest'"):
        _ = build_encoder({"kind": "clip", "architecture": TINY, "interpolation": "nearest"}).image_transform


def test_a_description_of_a_text_tower_never_leads_to_the_hub(offline, tmp_path):
    architecture = WITH_FILES["XLM-RoBERTa"](tmp_path)
    with pytest.raises(InputError, match=r"its config.json is missing"):
        build_encoder({"kind": "clip", "architecture": architecture})
    config = fetch_text_config(str(tmp_path))
    code = {**config, "auto_map": {"AutoConfig": "attack.Attack", "AutoModel": "attack.Attack"}, "model_type": "attack"}
    Path(tmp_path / "attack.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(InputError, match="cannot be used"):
        build_encoder({"kind": "clip", "architecture": architecture, "text_config": code})


def test_stored_features_have_no_transform_and_no_tokenizer():
    encoder = PrecomputedEncoder(8, 6)
    for use in (
        lambda: encoder.image_transform,
        lambda: encoder.resolution,
        lambda: encoder.context_length,
        lambda: encoder.tokenize(["two dogs"], 8),
        lambda: encoder.text_lengths(torch.zeros(1, 8)),
        lambda: encoder.encode_image(torch.zeros(1, 3, 8, 8)),
    ):
        with pytest.raises(InputError, match="trained on stored features"):
            use()
    pretrained, new = encoder.parameter_groups()
    assert pretrained == []
    assert {id(p) for p in new} == {id(p) for p in encoder.parameters()}
