"""Options that change how a step is computed, and not what it computes."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from math_hash.cli import main_py
from math_hash.config import Config
from math_hash.data import load_batches, read_dataset
from math_hash.errors import InputError
from math_hash.model import read_saved
from math_hash.training import loop
from math_hash.training.memory import memory_errors
from math_hash.training.setup import Data


def losses(folder):
    return [json.loads(line)["losses"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trained(tiny_flags, folder, *options):
    assert main_py(["--is-train", *tiny_flags, "--save-dir", str(folder), *options]) == 0
    return losses(folder)


def test_gradient_checkpointing_leaves_the_losses_as_they_are(tiny_flags, tmp_path):
    plain = trained(tiny_flags, tmp_path / "plain")
    changed = trained(tiny_flags, tmp_path / "changed", "--gradient-checkpointing")
    for one, other in zip(plain, changed, strict=True):
        assert one.keys() == other.keys()
        assert np.allclose([*one.values()], [*other.values()], rtol=1e-4)


def test_cached_pictures_are_decoded_once_and_change_nothing(tiny_flags, tmp_path, monkeypatch):
    plain = trained(tiny_flags, tmp_path / "plain")
    cache = ["--image-cache", "1", "--cache-dir", str(tmp_path / "cache")]
    trained(tiny_flags, tmp_path / "first", *cache)
    assert losses(tmp_path / "first") == plain

    def refuse(source):
        raise AssertionError(f"decoded again: {source}")

    monkeypatch.setattr("math_hash.data.pairs.open_image", refuse)
    monkeypatch.setattr("math_hash.training.plots.plot_history", lambda *arguments: None)
    trained(tiny_flags, tmp_path / "second", *cache)
    assert losses(tmp_path / "second") == plain
    results = [json.loads((tmp_path / name / "results.json").read_text())["mAP"] for name in ("plain", "second")]
    assert results[0] == results[1]


def test_a_bounded_cache_keeps_the_first_rows(tiny_flags, tmp_path, monkeypatch, capsys):
    side = 32 * 32 * 3 * 2  # both forms of a picture
    cache = ["--image-cache", str(20.5 * side / 1e9), "--cache-dir", str(tmp_path / "cache")]
    plain = trained(tiny_flags, tmp_path / "plain")
    assert trained(tiny_flags, tmp_path / "some", *cache) == plain
    kept = np.load(next((tmp_path / "cache").glob("*/train.npy")))
    assert kept.shape == (20, 3, 32, 32)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert main_py(["--is-train", *tiny_flags, "--image-cache", "1", *cache[2:]]) == 2
    assert "lacks" in capsys.readouterr().err


@pytest.mark.parametrize("masked", [True, False])
def test_padding_of_a_whole_batch_is_left_out_where_it_changes_nothing(tiny_flags, tiny_dataset, tmp_path, masked):
    trained(tiny_flags, tmp_path / "run", *([] if masked else ["--no-mask-padding"]))
    model = read_saved(tmp_path / "run")
    folder = read_dataset(tiny_dataset)
    pairs = Data(folder, None, None, {}, unusable=0, pairs_only=False).pairs(model).with_streams(("text", "label"))
    batch = next(iter(load_batches(pairs, [np.arange(20)])))
    lengths = (pairs.text_ids[:20].argmax(dim=1).max() + 1).item()
    assert batch["text"].shape[1] == (lengths if masked else model.max_words)
    assert lengths < model.max_words
    with torch.no_grad():
        assert torch.allclose(model.hash_text(batch["text"]), model.hash_text(pairs.text_ids[:20]), atol=1e-6)


def test_too_little_memory_is_one_line_with_remedies(tiny_flags, tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(loop.TrainingStep, "forward", full)
    assert main_py(["--is-train", *tiny_flags, "--save-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    for remedy in ("--batch-size", "--precision bf16", "--gradient-accumulation", "--gradient-checkpointing"):
        assert remedy in error.splitlines()[-1]
    with pytest.raises(InputError, match="out of memory"), memory_errors(Config()):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), memory_errors(Config()):
        raise RuntimeError("shape mismatch")
