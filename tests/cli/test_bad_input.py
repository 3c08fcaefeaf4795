"""User errors: one clear line, exit code 2, and nothing half-written."""

import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_tiny_dataset
from training.runs import ROOT, exported, metrics, run_folder

from math_hash.cli import main_py
from math_hash.data import read_dataset, write_mat


@pytest.fixture
def own_dataset(tmp_path, tiny_flags):
    """A dataset to damage, and flags that select it."""
    folder = make_tiny_dataset(tmp_path / "data" / "tiny", rows=60)
    flags = list(tiny_flags)
    flags[flags.index("--dataset-root") + 1] = str(folder.parent)
    return folder, flags


def refused(capsys, flags: list[str], message: str) -> None:
    assert main_py(flags) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k-bits", "0"], "--k-bits: 0 is below 1"),
        (["--k-bits", "40000"], "--k-bits: 40000 is not a number up to 32,767"),
        (["--image-cache", "nan"], "--image-cache: nan is not a number up to"),
        (["--lr", "inf"], "--lr: inf is not a number up to"),
        (["--split-seed", "5000000000"], "--split-seed: 5000000000 is not a number up to 4,294,967,295"),
        (["--seed", str(2**70)], "--seed: 1180591620717411303424 is not a number up to"),
        (["--seed", str(2**32)], "--seed: 4294967296 is not a number up to 4,294,967,295"),
        (["--resolution", "5"], "--resolution: 5 is below 16"),
        (["--query-num", "30", "--train-num", "40"], "70 rows, but the dataset has 60"),
        (["--val-num", "40"], "leaves no training rows"),
        (["--dropout", "1.5"], "outside"),
        (["--method", "MAHT"], "method MAHT is not installed: pip install .*; installed are MATH"),
        (["--dataset", "nowhere"], r"index\.mat: no such file; make the dataset"),
        (["--clip-path", "./nowhere.pt"], "no CLIP weights there; download"),
        (["--max-words", "30"], "reads at most 24 tokens"),
        (["--encoder", "demo"], "both name weights"),
        (["--resume", "nowhere"], "holds no run"),
        (["--config", "nowhere.yaml"], "cannot be read"),
        (["--image-root", "/nowhere"], r"row 0: .*no such picture \(60 pictures are missing"),
        (["--features", "/nowhere"], r"image_pooled\.npy: not a readable array"),
    ],
)
def test_wrong_options_are_one_line(capsys, tiny_flags, flags, message):
    refused(capsys, ["--is-train", *tiny_flags, *flags], message)
    assert not run_folder(tiny_flags).exists()


def test_unknown_choices_are_refused_by_the_parser(capsys, tiny_flags):
    with pytest.raises(SystemExit) as stop:
        main_py(["--is-train", *tiny_flags, "--precision", "fp8"])
    assert stop.value.code == 2


def test_neither_training_nor_a_model_to_evaluate_is_one_line(capsys, tiny_flags):
    refused(capsys, tiny_flags, "give --is-train to train, or --pretrained")


def test_unknown_keys_of_a_config_file_are_named(capsys, tiny_flags, tmp_path):
    (tmp_path / "a.yaml").write_text("k_bit: 16\n")
    refused(capsys, ["--is-train", *tiny_flags, "--config", str(tmp_path / "a.yaml")], "unknown option k_bit")
    (tmp_path / "a.yaml").write_text("k_bits: many\n")
    flags = [
        flag for pair in zip(tiny_flags[::2], tiny_flags[1::2], strict=True) if pair[0] != "--k-bits" for flag in pair
    ]
    refused(capsys, ["--is-train", *flags, "--config", str(tmp_path / "a.yaml")], "'many' is not of type int")


def test_damaged_datasets_are_one_line(capsys, own_dataset):
    folder, flags = own_dataset
    labels = read_dataset(folder).labels
    for name, content, message in (
        ("caption", {"caption": ["a"]}, "the files differ in length"),
        ("caption", {"text": ["a"]}, "has no key 'caption'"),
        ("label", {"label": labels * 2}, "is not a label; expected 0 or 1"),
        ("label", {"label": labels * (np.arange(60) != 5)[:, None]}, "row 5 has no label"),
    ):
        kept = (folder / f"{name}.mat").read_bytes()
        write_mat(folder / f"{name}.mat", content)
        refused(capsys, ["--is-train", *flags], message)
        (folder / f"{name}.mat").write_bytes(kept)
    (folder / "label.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut")
    refused(capsys, ["--is-train", *flags], r"label\.mat: not a readable \.mat file")
    assert not run_folder(flags).exists()


def test_a_missing_picture_is_found_before_training(capsys, own_dataset):
    folder, flags = own_dataset
    (folder / "17.png").unlink()
    refused(capsys, ["--is-train", *flags], r"row 17: .*17\.png: no such picture")
    assert not run_folder(flags).exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_truncated_picture_ends_the_run_with_its_row(capsys, own_dataset, workers):
    folder, flags = own_dataset
    (folder / "17.png").write_bytes((folder / "17.png").read_bytes()[:300])
    refused(capsys, ["--is-train", *flags, "--num-workers", workers], r"row 17: .*17\.png: cannot be decoded")


def test_bad_pictures_can_be_counted_listed_and_left_out(capsys, own_dataset):
    folder, flags = own_dataset
    (folder / "17.png").write_bytes((folder / "17.png").read_bytes()[:300])
    (folder / "18.png").unlink()
    assert main_py(["--is-train", *flags, "--on-bad-image", "skip"]) == 0
    assert "2 pictures cannot be read and are left out" in capsys.readouterr().out
    listed = (run_folder(flags) / "rejected.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in listed[1:]] == [["17", "17.png"], ["18", "18.png"]]
    codes = exported(run_folder(flags))
    assert len(codes["q_img"]) + len(codes["r_img"]) == 58


def test_a_finished_run_is_not_overwritten(capsys, tiny_flags):
    assert main_py(["--is-train", *tiny_flags]) == 0
    refused(capsys, ["--is-train", *tiny_flags], "already holds a run; continue it with --resume")


def test_models_of_another_kind_are_refused(capsys, tiny_flags, tmp_path):
    assert main_py(["--is-train", *tiny_flags]) == 0
    run = run_folder(tiny_flags)
    again = [*tiny_flags, "--pretrained", str(run), "--save-dir", str(tmp_path / "again")]
    refused(capsys, [*again, "--k-bits", "16"], "trained with --k-bits 12, not 16")
    clip = again.index("--clip-path")
    named = [*again[:clip], *again[clip + 2 :], "--encoder", "demo", "--encoder-weights", "none"]
    refused(capsys, named, "its encoder is not demo")
    refused(capsys, ["--is-train", *again, "--transformer-layers", "1"], "its head does not have the layers")
    refused(capsys, ["--resume", str(run), "--k-bits", "16"], "the run has --k-bits 12; leave --k-bits out")
    (run / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 damaged")
    refused(capsys, ["--resume", str(run)], r"last\.pt: damaged")
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(capsys, again, r"model\.safetensors: missing, damaged or of another model")
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.pth")
    refused(capsys, [*again, "--pretrained", str(tmp_path / "model.pth")], "not a released checkpoint of MATH")
    assert not (tmp_path / "again").exists()


def test_a_damaged_record_of_a_run_is_one_line(capsys, tiny_flags, tmp_path):
    assert main_py(["--is-train", *tiny_flags]) == 0
    run = run_folder(tiny_flags)
    (run / "results.json").write_text('{"selected_on": ')
    again = [*tiny_flags, "--pretrained", str(run), "--save-dir", str(tmp_path / "again")]
    refused(capsys, again, r"results\.json: not readable as JSON")
    (run / "train.log").unlink()
    (run / "train.log").mkdir()  # cannot be written, as on a disk that has become read-only
    refused(capsys, ["--resume", str(run)], r"train\.log: Is a directory")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "sco\n')
    refused(capsys, ["--resume", str(run)], r"metrics\.jsonl, line 3: not a record of an epoch")


@pytest.mark.slow
def test_a_full_disk_while_saving_leaves_the_last_checkpoint_intact(tiny_flags, tmp_path):
    arguments = ["--is-train", *tiny_flags, "--epochs", "3"]
    assert main_py(arguments) == 0
    folder = tmp_path / "full"

    def limit() -> None:  # no file may grow beyond 5 MB: the weights no longer fit
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    command = [sys.executable, "main.py", *arguments, "--save-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert re.search(r"error: cannot write .*: File too large; free some space", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "model.safetensors").exists()
    assert main_py(["--resume", str(folder)]) == 0  # with space again, the run continues to the same end
    for name, value in exported(run_folder(tiny_flags)).items():
        assert value.tobytes() == exported(folder)[name].tobytes(), name
    assert len(metrics(folder)) == 3


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one_intact(tmp_path):
    code = """
import resource, signal, sys, torch
from math_hash.training.run_folder import Run
run = Run(sys.argv[1])
run.save_checkpoint({"epoch": 1, "value": torch.ones(1000)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    run.save_checkpoint({"epoch": 2, "value": torch.ones(100_000)})
except Exception as error:
    print(type(error).__name__, error)
print(run.load_checkpoint()["epoch"])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("InputError cannot write"), done.stdout + done.stderr
    assert done.stdout.endswith("\n1\n")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]
