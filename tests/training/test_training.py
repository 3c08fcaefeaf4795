"""Whole runs through the command line, at toy size."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import tiny_clip
from models.released_weights import released_state
from training.runs import ROOT, exported, launch, metrics, run_folder

import math_hash
from math_hash.cli import main_py
from math_hash.data import read_dataset, split_rows
from math_hash.evaluation import distance_threshold, mean_average_precision


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(folder, tiny_flags) -> Path:
    """The folder of a run, which is trained when it is first asked for."""
    run = folder / "run"
    if not run.exists():
        assert main_py(["--is-train", *tiny_flags, "--save-dir", str(run)]) == 0
    return run


def test_a_run_writes_all_promised_files(trained, tiny_flags, tiny_dataset, capsys):
    results = json.loads((trained / "results.json").read_text())
    assert results["selected_on"] == "val"
    assert (results["queries"], results["database"], results["training_rows"]) == (10, 50, 31)
    assert results["database_without_training_rows"] == 10
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["k_bits"] == 12
    assert config["environment"]["packages"]["torch"]
    assert [record["epoch"] for record in metrics(trained)] == [1, 2]
    for name in ("train.log", "plots/loss.png", "plots/map.png", "plots/retrieval.png", "checkpoints/last.pt"):
        assert (trained / name).stat().st_size > 0, name
    assert list((trained / "tensorboard").iterdir())

    thresholds = dict(results["thresholds"])
    assert thresholds.pop("false_positive_rate") == 0.01
    assert set(thresholds) == set(results["mAP"])

    # the exported codes are those of load_model, and give the mAP that was reported
    data = read_dataset(tiny_dataset)
    split = split_rows(60, 10, 40, 9)
    codes = exported(trained)
    model = math_hash.load_model(trained)
    images = model.encode_image([data.image_path(row) for row in split.database], output="bits")
    texts = model.encode_text([data.captions[row] for row in split.query], output="bits")
    assert (images == (codes["r_img"] > 0)).all()
    assert (texts == (codes["q_txt"] > 0)).all()
    assert set(np.unique(codes["r_img"])) <= {-1, 1}
    assert (codes["q_l"] == data.labels[split.query]).all()
    assert (codes["r_l"] == data.labels[split.database]).all()
    found = mean_average_precision(codes["q_txt"], codes["r_img"], codes["q_l"], codes["r_l"])
    assert results["mAP"]["text->image"] == pytest.approx(found)

    # the thresholds are those of the validation rows
    assert model.thresholds == results["thresholds"]
    assert model.with_bits(8).thresholds is None
    texts = model.encode_text([data.captions[row] for row in split.val], output="bits")
    images = model.encode_image([data.image_path(row) for row in split.val], output="bits")
    wanted = distance_threshold(texts, images, data.labels[split.val], data.labels[split.val], 0.01)
    assert thresholds["text->image"] == wanted


def test_evaluating_a_run_repeats_its_results(trained, tiny_flags, tmp_path):
    flags = [*tiny_flags, "--pretrained", str(trained), "--save-dir", str(tmp_path / "again")]
    assert main_py(flags) == 0
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (trained, tmp_path / "again"))
    assert first["mAP"] == second["mAP"]
    assert first["mAP_without_training_rows"] == second["mAP_without_training_rows"]
    assert second["selected_epoch"] == first["selected_epoch"]
    for name, value in exported(trained).items():
        assert (value == exported(tmp_path / "again")[name]).all()


@pytest.mark.slow
def test_training_learns_the_colors(tiny_flags):
    assert main_py(["--is-train", *tiny_flags, "--epochs", "12", "--clip-lr", "0.001", "--select-on", "test"]) == 0
    results = json.loads((run_folder(tiny_flags) / "results.json").read_text())
    assert results["selected_on"] == "test"
    assert results["validation_rows"] == 0
    assert results["mAP"]["image->text"] > results["floor"] + 0.15


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_with_any_number_of_workers(tiny_flags, tmp_path):
    other = [*tiny_flags, "--save-dir", str(tmp_path / "other"), "--num-workers", "2"]
    for flags in (tiny_flags, other):
        assert main_py(["--is-train", *flags]) == 0
    first, second = metrics(run_folder(tiny_flags)), metrics(tmp_path / "other")
    assert [record["losses"] for record in first] == [record["losses"] for record in second]
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run_folder(tiny_flags), tmp_path / "other")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("option", [["--gradient-accumulation", "3"], ["--fusion", "token"], ["--freeze-encoder"]])
def test_training_runs_with_each_option(tiny_flags, option):
    assert main_py(["--is-train", *tiny_flags, *option, "--valid-freq", "2"]) == 0
    assert ["mAP" in record for record in metrics(run_folder(tiny_flags))] == [False, True]


def test_training_starts_from_a_trained_model(trained, tiny_flags, tmp_path):
    flags = [*tiny_flags, "--save-dir", str(tmp_path / "more"), "--pretrained", str(trained)]
    assert main_py(["--is-train", *flags]) == 0
    assert metrics(tmp_path / "more")[0]["loss"] < metrics(trained)[0]["loss"]


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_and_resumed_ends_with_the_same_codes(tiny_flags, tmp_path):
    arguments = ["--is-train", *tiny_flags, "--epochs", "4", "--num-workers", "1"]
    assert main_py(arguments) == 0
    killed = [*arguments, "--save-dir", str(tmp_path / "killed")]
    command = [sys.executable, "-c", _KILLED_IN_EPOCH_3, *killed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert [record["epoch"] for record in metrics(tmp_path / "killed")] == [1, 2]
    assert not (tmp_path / "killed" / "results.json").exists()
    assert main_py(["--resume", str(tmp_path / "killed")]) == 0
    whole, resumed = exported(run_folder(tiny_flags)), exported(tmp_path / "killed")
    for name, value in whole.items():
        assert value.tobytes() == resumed[name].tobytes(), name
    for folder in (run_folder(tiny_flags), tmp_path / "killed"):
        assert [record["epoch"] for record in metrics(folder)] == [1, 2, 3, 4]
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run_folder(tiny_flags), tmp_path / "killed")]
    assert weights[0] == weights[1]


# main.py in a process that kills itself, without any chance to clean up, in the middle of the third epoch
_KILLED_IN_EPOCH_3 = """
import os, signal
from math_hash.cli import main_py
from math_hash.training.step import TrainingStep
steps = 0
forward = TrainingStep.forward
def counted(*arguments):
    global steps
    steps += 1
    if steps == 2 * 4 + 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(*arguments)
TrainingStep.forward = counted
main_py()
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_and_resumed_reaches_its_end(tiny_flags, tmp_path):
    arguments = ["--is-train", *tiny_flags, "--epochs", "6"]
    assert main_py(arguments) == 0
    folder = tmp_path / "killed"
    rng = np.random.default_rng(0)
    command = [sys.executable, "main.py", *arguments, "--save-dir", str(folder)]
    for _ in range(3):
        if (folder / "config.yaml").exists():
            command = [sys.executable, "main.py", "--resume", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, start = len(metrics(folder)) if (folder / "metrics.jsonl").exists() else 0, time.monotonic()
        while process.poll() is None and time.monotonic() - start < 60:  # until it has finished one more epoch
            if (folder / "metrics.jsonl").exists() and len(metrics(folder)) > before:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
    assert main_py(["--resume", str(folder)]) == 0
    for name, value in exported(run_folder(tiny_flags)).items():
        assert value.tobytes() == exported(folder)[name].tobytes(), name


@pytest.mark.slow
def test_two_processes_encode_every_row_exactly_once(trained, tiny_flags, tiny_dataset, tmp_path):
    data, model = read_dataset(tiny_dataset), math_hash.load_model(trained)
    continuous = {
        "img": model.encode_image([data.image_path(row) for row in range(60)], output="continuous"),
        "txt": model.encode_text(data.captions, output="continuous"),
    }
    for queries, batch in (("10", "7"), ("11", "64")):
        arguments = [*tiny_flags, "--query-num", queries, "--batch-size", batch, "--pretrained", str(trained)]
        arguments += ["--precision", "no"]
        assert main_py([*arguments, "--save-dir", str(tmp_path / f"one{queries}")]) == 0
        launch(2, [*arguments, "--save-dir", str(tmp_path / f"two{queries}")])
        one, two = (exported(tmp_path / f"{name}{queries}") for name in ("one", "two"))
        split = split_rows(60, int(queries), 40, 9)
        for part, rows in (("q", split.query), ("r", split.database)):
            assert (one[f"{part}_l"] == two[f"{part}_l"]).all()
            for modality, values in continuous.items():
                name = f"{part}_{modality}"
                assert one[name].shape == two[name].shape == (len(rows), 12)
                decided = np.abs(values[rows]) > 1e-5  # the others depend on rounding
                assert decided.mean() > 0.99, name
                assert ((one[name] == two[name]) | ~decided).all(), name


@pytest.mark.slow
def test_mixed_precision_trains_and_is_evaluated_in_full_precision(tiny_flags):
    launch(1, ["--is-train", *tiny_flags, "--precision", "bf16"])
    folder = run_folder(tiny_flags)
    assert all(np.isfinite(record["loss"]) for record in metrics(folder))
    data, split = read_dataset(Path(tiny_flags[1]) / "tiny"), split_rows(60, 10, 40, 9)
    texts = math_hash.load_model(folder).encode_text([data.captions[row] for row in split.query], output="bits")
    assert (texts == (exported(folder)["q_txt"] > 0)).all()


def test_a_released_checkpoint_is_evaluated_like_any_model(tiny_flags, tmp_path, capsys):
    clip = tiny_clip()
    clip.positional_embedding.data = torch.cat([clip.positional_embedding.data, torch.randn(16, 64)])
    torch.save(released_state(clip), tmp_path / "model.pth")
    assert main_py([*tiny_flags, "--k-bits", "20", "--pretrained", str(tmp_path / "model.pth")]) == 0
    assert "epoch chosen on unknown" in capsys.readouterr().out
    assert (run_folder(tiny_flags) / "PR_curve" / "MATH-tiny-20.mat").exists()
