"""Towers of every kind that open_clip builds, against open_clip's own forward pass; each a small random model."""

import json
import socket

import pytest
import torch
from encoders.plain_text_tower import TEXTS
from encoders.tiny_architectures import ARCHITECTURES, WITH_FILES, tiny_encoder

from math_hash import InputError
from math_hash.data import Needs
from math_hash.encoders import ClipEncoder, build_encoder
from math_hash.encoders.clip_towers import ClipImageTower, ClipTextTower

KINDS = [*ARCHITECTURES, *WITH_FILES]
TOKENS, ALL, POOLED = Needs(tokens=True), Needs(tokens=True, stages=True, padding=True), Needs()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def encoder(kind, tmp_path):
    return tiny_encoder(kind, tmp_path)


def pictures(encoder, count=3):
    torch.manual_seed(1)
    return torch.randn(count, 3, encoder.resolution, encoder.resolution)


def first(value):
    return value[0] if isinstance(value, tuple) else value


@torch.no_grad()
def test_pooled_vectors_are_open_clips_own(encoder):
    images, ids = pictures(encoder), encoder.tokenize(TEXTS, encoder.context_length)
    expected = first(encoder.clip.visual(images)), first(encoder.clip.encode_text(ids))
    for needs in (POOLED, TOKENS, ALL):
        assert torch.allclose(encoder.encode_image(images, needs).pooled, expected[0], atol=1e-5)
        assert torch.allclose(encoder.encode_text(ids, needs).pooled, expected[1], atol=1e-5)


@torch.no_grad()
def test_tokens_and_stages_have_the_promised_shapes(encoder):
    images, ids = pictures(encoder), encoder.tokenize(TEXTS, 8)
    image, text = encoder.encode_image(images, ALL), encoder.encode_text(ids, ALL)
    image_width, text_width = encoder.stage_widths
    assert image.tokens.ndim == 3
    assert image.tokens.shape[0] == 3
    assert image.tokens.shape[2] == encoder.width
    assert image.padding is None
    assert image.stages.shape == (3, 4, image_width)
    assert text.tokens.shape == (4, 8, encoder.width)
    assert text.stages.shape == (4, 4, text_width)
    assert torch.equal(text.padding, torch.arange(8) >= encoder.text_lengths(ids)[:, None])
    assert encoder.encode_image(images, POOLED).stages is None
    assert encoder.encode_text(ids, POOLED).stages is None
    for stages in (image.stages, text.stages):
        assert not torch.allclose(stages[:, 0], stages[:, 3])


@torch.no_grad()
def test_padding_that_is_cut_off_changes_nothing(encoder):
    ids = encoder.tokenize([text for text in TEXTS if len(text) < 50], encoder.context_length)
    longest = int(encoder.text_lengths(ids).max())
    assert longest < encoder.context_length
    whole, cut = encoder.encode_text(ids, ALL), encoder.encode_text(ids[:, :longest], ALL)
    assert torch.allclose(whole.pooled, cut.pooled, atol=1e-5)
    assert torch.allclose(whole.stages, cut.stages, atol=1e-5)
    kept = ~cut.padding
    assert torch.allclose(whole.tokens[:, :longest][kept], cut.tokens[kept], atol=1e-5)


@torch.no_grad()
def test_chunks_of_a_large_batch_give_the_rows_of_small_ones(encoder):
    images, ids = pictures(encoder, 40), encoder.tokenize(TEXTS * 10, 8)
    rows = [0, 33, 39]
    for whole, some in (
        (encoder.encode_image(images, TOKENS), encoder.encode_image(images[rows], TOKENS)),
        (encoder.encode_text(ids, ALL), encoder.encode_text(ids[rows], ALL)),
    ):
        assert torch.allclose(whole.pooled[rows], some.pooled, atol=1e-5)
        assert torch.allclose(whole.tokens[rows], some.tokens, atol=1e-5)


def test_a_saved_one_is_rebuilt_from_its_description_without_files_or_network(encoder, tmp_path, monkeypatch):
    spec, state = json.loads(json.dumps(encoder.spec)), encoder.state_dict()
    for path in tmp_path.rglob("*.*"):
        path.unlink()

    def refuse(*arguments):
        raise AssertionError("this uses the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rebuilt = build_encoder(spec)
    rebuilt.load_state_dict({name: value.clone() for name, value in state.items()})
    rebuilt.eval()
    assert rebuilt.spec == encoder.spec
    ids = encoder.tokenize(TEXTS, 8)
    assert torch.equal(rebuilt.tokenize(TEXTS, 8), ids)
    assert rebuilt.image_transform == encoder.image_transform
    with torch.no_grad():
        images = pictures(encoder)
        assert torch.equal(rebuilt.encode_image(images, TOKENS).tokens, encoder.encode_image(images, TOKENS).tokens)
        assert torch.equal(rebuilt.encode_text(ids, TOKENS).tokens, encoder.encode_text(ids, TOKENS).tokens)


def test_every_part_that_takes_part_gets_gradients(encoder):
    encoder.train()
    images, ids = pictures(encoder), encoder.tokenize(TEXTS, 8)
    image, text = encoder.encode_image(images, TOKENS), encoder.encode_text(ids, TOKENS)
    (image.tokens.sum() + image.pooled.sum() + text.tokens.square().sum() + text.pooled.sum()).backward()
    pretrained, new = encoder.parameter_groups()
    assert new == []
    learning = [parameter for parameter in pretrained if parameter.grad is not None]
    assert len(learning) > 0.9 * len(pretrained)
    assert {id(p) for p in pretrained} == {id(p) for p in encoder.parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["MobileCLIP, causal", "ResNet"])
def test_batch_norm_makes_no_row_depend_on_its_batch_in_training(encoder):
    encoder.train()
    images, state = pictures(encoder, 4), {name: value.clone() for name, value in encoder.state_dict().items()}
    whole, alone = encoder.encode_image(images, POOLED).pooled, encoder.encode_image(images[1:2], POOLED).pooled
    assert torch.allclose(whole[1:2], alone, atol=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["MobileCLIP, causal", "Swin", "averaged ViT"])
def test_tokens_average_to_the_pooled_vector_where_a_projection_follows_average_pooling(encoder):
    features = encoder.encode_image(pictures(encoder), TOKENS)
    assert torch.allclose(features.tokens.mean(dim=1), features.pooled, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["SigLIP", "EVA", "perception encoder"])
def test_a_token_is_what_pooling_makes_of_one_place_alone(encoder):
    visual, images = encoder.clip.visual, pictures(encoder, 2)
    states = visual.trunk.forward_features(images)
    before = visual.trunk.num_prefix_tokens
    place = states[:, before + 5 : before + 6]
    pooled = visual.head(visual.trunk.forward_head(torch.cat([place] * (before + 1), dim=1)))
    assert torch.allclose(encoder.encode_image(images, TOKENS).tokens[:, 5], pooled, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "widths"), [("ConvNeXt", [24, 32, 48, 64]), ("ResNet", [64, 128, 256, 512])])
def test_stages_of_narrower_feature_maps_are_filled_up_with_zeros(encoder, widths):
    stages = encoder.encode_image(pictures(encoder), ALL).stages
    for stage, width in zip(stages.unbind(dim=1), widths, strict=True):
        assert (stage[:, width:] == 0).all()
        assert (stage[:, width // 2 : width] != 0).any()


@pytest.mark.parametrize(
    ("kind", "of_images", "of_texts"),
    [("MobileCLIP, causal", False, True), ("XLM-RoBERTa", True, False), ("worldwide", True, True)],
)
def test_clips_own_towers_keep_the_memory_saving_blocks(encoder, of_images, of_texts):
    assert isinstance(encoder.image_tower, ClipImageTower) == of_images
    assert isinstance(encoder.text_tower, ClipTextTower) == of_texts


@pytest.mark.parametrize("kind", ["ConvNeXt", "XLM-RoBERTa", "CoCa"])
def test_checkpointing_leaves_the_features_as_they_are(encoder):
    images, ids = pictures(encoder), encoder.tokenize(TEXTS, 8)
    before = encoder.encode_image(images, TOKENS).tokens, encoder.encode_text(ids, TOKENS).tokens
    encoder.set_grad_checkpointing()
    after = encoder.encode_image(images, TOKENS).tokens, encoder.encode_text(ids, TOKENS).tokens
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["ConvNeXt"])
def test_a_tower_without_stages_says_so(encoder, monkeypatch):
    monkeypatch.delattr(type(encoder.clip.visual.trunk), "forward_intermediates")
    without = ClipEncoder(encoder.architecture)
    assert without.stage_widths is None
    assert without.encode_image(pictures(encoder), TOKENS).stages is None
    for encode, given in (
        (without.encode_image, pictures(encoder)),
        (without.encode_text, encoder.tokenize(TEXTS, 8)),
    ):
        with pytest.raises(InputError, match="gives no states of four depths"):
            encode(given, ALL)
