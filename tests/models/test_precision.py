"""Encoding in bf16: its codes, its weights, and where it is chosen."""

import numpy as np
import pytest
import torch
from conftest import TINY
from encoders.tiny_architectures import tiny_encoder

import math_hash
from math_hash import InputError
from math_hash.cli import main
from math_hash.config import Config
from math_hash.data import read_dataset
from math_hash.encoders import ClipEncoder
from math_hash.methods import complete_options
from math_hash.models.model import HashModel
from math_hash.models.precision import bf16_instructions, choose_precision
from math_hash.retrieval import shards
from math_hash.retrieval.codes_folder import CodesFolder

AVX, AMX = {"avx512_bf16": True}, {"avx512_bf16": True, "amx_bf16": True}


@pytest.fixture(scope="module")
def rounded(trained_run):
    return math_hash.load_model(trained_run, precision="bf16")


@pytest.mark.parametrize("modality", ["image", "text"])
def test_codes_in_bf16_differ_in_under_half_a_percent_of_bits_all_near_zero(model, rounded, tiny_dataset, modality):
    data = read_dataset(tiny_dataset)
    items = {"image": [data.image_path(row) for row in range(60)], "text": data.captions}[modality]
    wanted = getattr(model, f"encode_{modality}")(items, output="continuous")
    given = getattr(rounded, f"encode_{modality}")(items, output="continuous")
    differ = (wanted >= 0) != (given >= 0)
    assert differ.mean() < 0.005
    assert (np.abs(wanted[differ]) < 0.05).all()
    assert 0 < np.abs(wanted - given).max() < 0.05
    assert given.dtype == np.float32
    assert np.abs(given).max() < 1


def test_matrices_are_rounded_once_and_the_model_is_as_it_was(trained_run, model, rounded):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = model.in_precision("bf16")
    for given in (copy, rounded):
        for name, weight in given.named_parameters():
            half = weight.ndim > 1 and (name.startswith("encoder.") or ".transformer." in name)
            assert weight.dtype == (torch.bfloat16 if half else torch.float32), name
            assert torch.equal(weight, before[name].to(weight.dtype))
        assert given.fingerprint == model.fingerprint
        assert given.with_bits(3).fingerprint == model.with_bits(3).fingerprint
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert model.in_precision("no") is model
    with pytest.raises(InputError, match="are rounded to bf16; load the model again"):
        copy.in_precision("no")
    with pytest.raises(InputError, match="only weights in float32 are saved"):
        copy.save(trained_run)


@pytest.mark.parametrize(
    ("kind", "method"), [("CLIP", "MITH"), ("CLIP", "CMCL"), ("SigLIP", "SCAHN"), ("XLM-RoBERTa", "DSPH")]
)
def test_other_encoders_and_heads_encode_in_bf16(tmp_path, kind, method):
    torch.manual_seed(0)
    encoder = ClipEncoder(TINY) if kind == "CLIP" else tiny_encoder(kind, tmp_path)
    options = complete_options(method, {}, {"num_labels": 5, "stage_widths": encoder.stage_widths})
    model = HashModel(encoder, method, 16, options, 12).eval()
    given = model.in_precision("bf16")
    tokens, pictures = model.tokenize(["a red circle", "two dogs"], 12), torch.randn(2, 3, *[encoder.resolution] * 2)
    with torch.inference_mode():
        assert 0 < (model.hash_text(tokens) - given.hash_text(tokens)).abs().max() < 0.05
        assert 0 < (model.hash_image(pictures) - given.hash_image(pictures)).abs().max() < 0.1


def test_auto_follows_the_processor(monkeypatch):
    for known, chosen, named in (
        ({}, "no", []), ({"avx512_vnni": True, "avx512_bf16": False}, "no", []), (AVX, "bf16", ["AVX512-BF16"]),
        (AMX, "bf16", ["AVX512-BF16", "AMX-BF16"]),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert choose_precision("auto", "cpu") == chosen
        assert bf16_instructions() == named
        assert choose_precision("no", "cpu") == "no"
        assert choose_precision("bf16", "cpu") == "bf16"  # slower, but possible
    assert (Config(is_train=True).precision, Config().precision) == ("no", "auto")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert choose_precision("auto", "cuda") == "bf16"
    assert choose_precision("fp16", "cuda") == "fp16"
    with pytest.raises(InputError, match="fp16: needs a GPU"):
        choose_precision("fp16", "cpu")
    with pytest.raises(InputError, match="choose from auto, no, fp16, bf16"):
        choose_precision("half", "cpu")


def test_encode_takes_bf16_where_it_is_fast_and_a_killed_run_goes_on_in_the_same_precision_only(
    trained_run, rounded, tmp_path, monkeypatch, shards_written
):
    texts, output = tmp_path / "texts.txt", tmp_path / "codes"
    texts.write_text("one\ntwo\nthree\nfour\nfive\n")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AVX)
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    shards_written.stop_at = 2
    arguments = ["encode", str(trained_run), str(texts), "--device", "cpu", "--continuous", "--output", str(output)]
    assert main(arguments) == 130
    assert main([*arguments, "--precision", "no"]) == 0
    assert shards_written.count == 2 + 3  # no shard of the bf16 run was taken over
    assert CodesFolder.open(output).config["precision"] == "no"
    assert main([*arguments[:-1], str(tmp_path / "auto")]) == 0
    folder = CodesFolder.open(tmp_path / "auto")
    assert folder.config["precision"] == "bf16"
    wanted = rounded.encode_text(texts.read_text().split(), output="continuous")
    assert np.allclose(folder.continuous, wanted, atol=1e-3)
