"""`math-hash leak-check`: trained models pass, and methods that leak are found out."""

import re

import pytest
import torch

from math_hash.cli import main
from math_hash.config import make_config
from math_hash.training.setup import open_data, open_model


@pytest.fixture
def flags(tiny_dataset):
    return [
        "--dataset-root", str(tiny_dataset.parent), "--dataset", "tiny", "--query-num", "20", "--train-num", "30",
        "--num-workers", "0",
    ]  # fmt: skip


@pytest.fixture
def saved(tiny_dataset, clip_file, tmp_path):
    """Save an untrained model of a method: its folder."""

    def save(method):
        options = {"dataset_root": str(tiny_dataset.parent), "dataset": "tiny", "query_num": 20, "train_num": 30}
        options |= {"clip_path": str(clip_file), "resolution": 32, "max_words": 12, "val_num": 5, "k_bits": 12}
        config = make_config({**options, "method": method})
        torch.manual_seed(0)
        open_model(config, open_data(config)).save(tmp_path / "model")
        return str(tmp_path / "model")

    return save


def found(printed, modality):
    """How many codes of a modality changed with each cause."""
    (line,) = [line for line in printed.splitlines() if line.startswith(modality)]
    return {name: int(count) for name, count in re.findall(r"(partner|labels|batch|repeated|rounding) (\d+)", line)}


def test_a_trained_run_passes_on_its_own_dataset(trained_run, capsys):
    assert main(["leak-check", str(trained_run)]) == 0
    printed = capsys.readouterr().out
    for modality in ("image", "text"):
        assert found(printed, modality) | {"rounding": 0} == dict.fromkeys(
            ("partner", "labels", "batch", "repeated", "rounding"), 0
        )
    assert "of 10 codes" in printed


@pytest.mark.parametrize("method", ["MITH", "DSPH", "ITQ"])
def test_methods_pass(saved, flags, method):
    assert main(["leak-check", saved(method), *flags, "--rows", "6"]) == 0


@pytest.mark.parametrize(
    ("method", "cause"), [("FusedWithText", "partner"), ("FusedWithLabels", "labels"), ("Centered", "batch")]
)
def test_a_leaking_method_is_found_out_and_its_cause_named(saved, flags, capsys, method, cause):
    assert main(["leak-check", saved(f"training.leaking_methods:{method}"), *flags]) == 2
    printed = capsys.readouterr()
    image, text = (found(printed.out, modality) for modality in ("image", "text"))
    assert image[cause] > 10
    assert not any(count for name, count in image.items() if name not in (cause, "rounding"))
    assert not any(count for name, count in text.items() if name != "rounding")
    assert "codes of image queries depend on more than the query" in printed.err


def test_flags_of_training_are_refused(trained_run, capsys):
    assert main(["leak-check", str(trained_run), "--epochs", "3"]) == 2
    assert "--epochs: is for training" in capsys.readouterr().err
