"""Options that change how a step is computed, and not what it computes."""

import json

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
