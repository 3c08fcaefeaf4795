import copy
import pickle
import warnings
import zipfile

import pytest
import torch
from conftest import TINY, tiny_clip
from encoders.plain_text_tower import TEXTS, plain_text_tower
from safetensors.torch import save_file

from math_hash import InputError
from math_hash.data import Needs
from math_hash.encoders import ClipEncoder, encoder_from_openai, open_encoder
from math_hash.encoders.state_dict import read_state_dict


def archive(model):
    """The model as a TorchScript module, the form in which OpenAI publishes CLIP."""
    images, ids = torch.ones(2, 3, 32, 32), torch.zeros(2, 24, dtype=torch.long)
    inputs = {"forward": (images, ids), "encode_image": (images,), "encode_text": (ids,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of what it fixes, and of being deprecated
        return torch.jit.trace_module(copy.deepcopy(model), inputs)


def write_weights(model, path, form):
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if form == "torchscript":
        archive(model).save(str(path))
    elif form == "half torchscript":  # OpenAI's file holds half-precision weights
        archive(model).half().save(str(path))
    elif form == "safetensors":
        save_file(state, path)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        numbers = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(24)}
        torch.save({**state, **numbers}, path)


@pytest.mark.parametrize("form", ["torchscript", "state_dict", "safetensors", "wrapped"])
def test_openai_files_give_open_clips_own_vectors(tmp_path, form):
    model = tiny_clip()
    path = tmp_path / ("ViT.safetensors" if form == "safetensors" else "ViT-B-32.pt")
    write_weights(model, path, form)
    encoder = open_encoder(str(path), resolution=32).eval()
    images = torch.randn(3, 3, 32, 32)
    ids = encoder.tokenize(TEXTS, 24)
    with torch.no_grad():
        assert torch.allclose(encoder.encode_image(images).pooled, model.encode_image(images), atol=1e-5)
        assert torch.allclose(encoder.encode_text(ids).pooled, model.encode_text(ids), atol=1e-5)


def test_half_precision_archives_become_float32(tmp_path):
    model = tiny_clip()
    write_weights(model, tmp_path / "a.pt", "half torchscript")
    encoder = open_encoder(str(tmp_path / "a.pt"), resolution=32)
    weight = encoder.clip.visual.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.visual.conv1.weight.half().float())


def test_every_token_is_normed_and_projected():
    model, encoder = tiny_clip(), encoder_from_openai(tiny_clip().state_dict(), 32, "test")
    images = torch.randn(2, 3, 32, 32)
    visual = model.visual
    with torch.no_grad():
        states = visual.transformer(visual._embeds(images))
        expected = visual.ln_post(states) @ visual.proj
        features = encoder.encode_image(images)
    assert features.tokens.shape == (2, 4, 64)
    assert torch.allclose(features.tokens, expected[:, 1:], atol=1e-5)
    assert torch.allclose(features.pooled, expected[:, 0], atol=1e-5)
    assert features.padding is None
    assert features.content_mask() is None


def test_texts_are_encoded_as_a_plain_transcription_does_padding_included():
    model, encoder = tiny_clip(), encoder_from_openai(tiny_clip().state_dict(), 32, "test")
    ids = encoder.tokenize(TEXTS, 12)  # shorter than the context: the first 12 positions
    with torch.no_grad():
        expected, features = plain_text_tower(model, ids), encoder.encode_text(ids)
    assert torch.allclose(features.tokens, expected, atol=1e-5)
    assert torch.allclose(features.pooled, expected[range(4), ids.argmax(1)], atol=1e-5)
    assert (features.padding == (torch.arange(12) > ids.argmax(1)[:, None])).all()
    content = features.content_mask()
    assert content.sum(1).tolist() == ids.argmax(1).tolist()  # neither the end marker nor padding
    assert content[1].tolist() == [True] + [False] * 11  # an empty text keeps its start marker


def test_padding_changes_only_the_padding_positions():
    encoder = encoder_from_openai(tiny_clip().state_dict(), 32, "test")
    ids = encoder.tokenize(["two dogs"], 12)
    with torch.no_grad():
        long, short = encoder.encode_text(ids), encoder.encode_text(ids[:, :4])
    assert torch.allclose(long.tokens[:, :4], short.tokens, atol=1e-5)
    assert torch.allclose(long.pooled, short.pooled, atol=1e-5)


def test_rows_encoded_in_chunks_are_those_of_one_batch(monkeypatch):
    encoder = encoder_from_openai(tiny_clip().state_dict(), 32, "test")
    images, ids = torch.randn(70, 3, 32, 32), encoder.tokenize(TEXTS * 17 + TEXTS[:2], 12)
    with torch.no_grad():
        found = [
            encoder.encode_image(images, Needs(tokens=True, stages=True)),
            encoder.encode_text(ids, Needs(tokens=True, stages=True)),
        ]
        monkeypatch.setattr("math_hash.encoders.blocks.CPU_ROWS", 1000)
        wanted = [
            encoder.encode_image(images, Needs(tokens=True, stages=True)),
            encoder.encode_text(ids, Needs(tokens=True, stages=True)),
        ]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.pooled, other.pooled, atol=1e-5)
        assert torch.allclose(one.stages, other.stages, atol=1e-5)
    assert torch.allclose(found[0].tokens, wanted[0].tokens, atol=1e-5)
    padding = wanted[1].padding
    assert torch.equal(found[1].padding, padding)
    assert torch.allclose(found[1].tokens[~padding], wanted[1].tokens[~padding], atol=1e-5)


def test_stages_are_the_pooled_states_at_the_end_of_each_quarter():
    model, encoder = tiny_clip(), encoder_from_openai(tiny_clip().state_dict(), 32, "test")
    images, ids = torch.randn(2, 3, 32, 32), encoder.tokenize(TEXTS, 12)
    visual = model.visual
    with torch.no_grad():
        first = visual.transformer.resblocks[0](visual._embeds(images))
        second = visual.transformer.resblocks[1](first)
        image = encoder.encode_image(images, Needs(tokens=True, stages=True))
        text = encoder.encode_text(ids, Needs(tokens=True, stages=True))
        whole = encoder.encode_text(ids)
    assert torch.allclose(image.stages, torch.stack([first[:, 0]] * 2 + [second[:, 0]] * 2, dim=1), atol=1e-5)
    assert text.stages.shape == (4, 4, 64)
    projected = model.ln_final(text.stages[:, 3]) @ model.text_projection
    assert torch.allclose(projected, whole.pooled, atol=1e-5)


def test_another_resolution_interpolates_the_positions():
    encoder = encoder_from_openai(tiny_clip().state_dict(), 64, "test")
    assert encoder.encode_image(torch.randn(1, 3, 64, 64)).tokens.shape == (1, 16, 64)
    same = encoder_from_openai(tiny_clip().state_dict(), 32, "test").clip.visual.positional_embedding
    assert torch.equal(same, tiny_clip().visual.positional_embedding)


def test_custom_text_models_of_open_clip_work_too():
    encoder = ClipEncoder({**TINY, "custom_text": True}).eval()
    ids = encoder.tokenize(TEXTS, 24)
    with torch.no_grad():
        assert torch.allclose(encoder.encode_text(ids).pooled, encoder.clip.encode_text(ids), atol=1e-5)


def test_nothing_to_load_says_what_to_download():
    with pytest.raises(
        InputError, match=r"download https://\S+/ViT-B-32\.pt to this path.*`encoder` ViT-B-32-quickgelu"
    ):
        open_encoder("./nowhere/ViT-B-32.pt")
    with pytest.raises(InputError, match="not an open_clip model"):
        open_encoder("", "ViT-Z-99", "openai")
    with pytest.raises(InputError, match=r"its tags are .*openai"):
        open_encoder("", "ViT-B-32-quickgelu", "nonsense")


def test_weights_of_another_architecture_are_refused(tmp_path):
    write_weights(tiny_clip(), tmp_path / "a.pt", "state_dict")
    with pytest.raises(InputError, match="do not fit the encoder"):
        open_encoder("", "demo", str(tmp_path / "a.pt"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    for content in (b"", b"hello", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a readable weight file"):
            read_state_dict(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="does not hold a state_dict"):
        read_state_dict(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not a CLIP"):
        open_encoder(str(path))


class _Attack:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("form", ["pickle", "archive"])
def test_code_in_a_file_is_never_run(tmp_path, capsys, form):
    path = tmp_path / "a.pt"
    if form == "pickle":
        torch.save({"a": _Attack()}, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/constants.pkl", b"")
            archive.writestr("m/data.pkl", pickle.dumps(_Attack()))
    with pytest.raises(InputError, match="not a readable weight file"):
        read_state_dict(path)
    assert "this ran" not in capsys.readouterr().out
