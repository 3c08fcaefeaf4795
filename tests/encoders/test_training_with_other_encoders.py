"""Training, saving and encoding with encoders that are not CLIP's own, from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders.tiny_architectures import tiny_encoder

import math_hash
from math_hash.cli import main_py
from math_hash.data import read_dataset
from math_hash.models.model import HashModel

TESTS = Path(__file__).resolve().parents[1]
TEXTS = ["red and blue", "", "two dogs on the beach"]


@pytest.fixture
def flags(tiny_flags, tmp_path):
    """A run on a folder with an encoder of some kind, which starts at random."""

    def of_kind(kind, *more):
        folder = tmp_path / "encoder"
        folder.mkdir()
        architecture = tiny_encoder(kind, folder).architecture
        preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bicubic"}
        content = {"model_cfg": architecture, "preprocess_cfg": preprocessing}
        (folder / "open_clip_config.json").write_text(json.dumps(content))
        at = tiny_flags.index("--clip-path")
        kept = [*tiny_flags[:at], *tiny_flags[at + 2 :], "--encoder", str(folder), "--encoder-weights", "none"]
        return [*kept, "--resolution", "64", "--epochs", "1", *more]

    return of_kind


# opens a model where neither its files nor a network are there; the tiny towers of timm have to be known by name
ENCODE = """
import socket, sys
import encoders.tiny_architectures
import numpy as np
def refuse(*arguments):
    raise SystemExit("this uses the network")
socket.socket.connect = refuse
import math_hash
model = math_hash.load_model(sys.argv[1])
texts = ["red and blue", "", "two dogs on the beach"]
np.savez(sys.argv[2], text=model.encode_text(texts), image=model.encode_image(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("SigLIP", "MATH"), ("XLM-RoBERTa", "MITH"), ("ConvNeXt", "SCAHN")])
def test_a_trained_model_opens_on_a_machine_without_network(flags, tiny_dataset, tmp_path, kind, method):
    assert main_py(["--is-train", "--method", method, *flags(kind)]) == 0
    model = math_hash.load_model(tmp_path / "run")
    data = read_dataset(tiny_dataset)
    pictures = [str(data.image_path(row)) for row in range(4)]
    text, image = model.encode_text(TEXTS), model.encode_image(pictures)
    assert model.image_transform.resize_mode == "squash"
    shutil.rmtree(tmp_path / "encoder")
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, str(tmp_path / "run"), str(tmp_path / "codes.npz"), *pictures],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path[1:]]), "HF_HOME": str(tmp_path / "empty")},
    )
    assert done.returncode == 0, done.stderr
    codes = np.load(tmp_path / "codes.npz")
    assert (codes["text"] == text).all()
    assert (codes["image"] == image).all()
    again = math_hash.load_model(tmp_path / "run")
    assert again.fingerprint == model.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SigLIP", "MobileCLIP, not causal"])
def test_a_frozen_encoder_has_its_features_computed_once(flags, tmp_path, kind):
    arguments = flags(kind, "--freeze-encoder", "--method", "MATH")
    assert main_py(["--is-train", *arguments]) == 0
    (cache,) = (path for path in (tmp_path / "cache").iterdir() if not path.name.startswith("."))
    described = json.loads((cache / "features.json").read_text())
    assert described["resize_mode"] == "squash"
    tokens, lengths = np.load(cache / "text_tokens.npy"), np.load(cache / "text_length.npy")
    assert tokens.shape[:2] == (60, 12)
    assert 1 <= lengths.min() < lengths.max() <= 12
    assert np.isfinite(tokens).all()


def test_a_tower_without_stages_is_refused_by_a_method_that_needs_them(flags, monkeypatch, capsys):
    arguments = flags("ConvNeXt", "--method", "SCAHN")
    monkeypatch.delattr("timm.models.convnext.ConvNeXt.forward_intermediates")
    assert main_py(["--is-train", *arguments]) == 2
    assert "SCAHN: needs stage_widths" in capsys.readouterr().err


def test_onnx_export_of_another_tokenizer_is_refused(tmp_path):
    onnx = pytest.importorskip("math_hash.models.onnx")
    pytest.importorskip("onnxruntime")
    encoder = tiny_encoder("SigLIP", tmp_path)
    model = HashModel(encoder, "MESDCH", 8, {"num_labels": 3}, 12)
    with pytest.raises(math_hash.InputError, match="tokenizer is not CLIP's"):
        onnx.export_onnx(model, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@torch.no_grad()
def test_texts_of_a_batch_are_cut_to_the_longest_as_the_tokenizer_counts(tiny_dataset, tmp_path):
    from math_hash.data import Needs, PairDataset, load_batches

    encoder = tiny_encoder("XLM-RoBERTa", tmp_path)
    data = read_dataset(tiny_dataset)
    pairs = PairDataset(data, encoder.tokenizer, encoder.image_transform, 12, needs=Needs(tokens=True))
    (batch,) = load_batches(pairs.with_streams(("text",)), [np.arange(20)])
    ids = encoder.tokenize(data.captions[:20], 12)
    longest = int(encoder.text_lengths(ids).max())
    assert batch["text"].shape == (20, longest)
    assert longest < 12
    assert torch.allclose(encoder.encode_text(batch["text"]).pooled, encoder.encode_text(ids).pooled, atol=1e-5)
