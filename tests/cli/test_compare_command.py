"""`math-hash compare`, from a dataset to the table, the figure and the sentences."""

import builtins
import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

import math_hash
from math_hash.cli import main
from math_hash.errors import InputError


@pytest.fixture(scope="module")
def compared(tiny_dataset, clip_file, tmp_path_factory):
    """The flags and the output of a comparison of 16 and 64 bits on the tiny dataset."""
    folder = tmp_path_factory.mktemp("compare")
    flags = [
        "compare", "--dataset-root", str(tiny_dataset.parent), "--dataset", "tiny", "--clip-path", str(clip_file),
        "--resolution", "32", "--max-words", "12", "--query-num", "10", "--train-num", "40", "--val-num", "9",
        "--batch-size", "8", "--epochs", "1", "--num-workers", "0", "--tracker", "--code-lengths", "16", "64",
        "--unseen-labels", "2", "--cache-dir", str(folder / "cache"), "--output", str(folder / "out"),
    ]  # fmt: skip
    assert main(flags) == 0
    return flags, folder / "out"


def record_of(folder):
    return json.loads((folder / "compare.json").read_text())


def test_the_table_holds_every_entry_in_every_form(compared):
    record = record_of(compared[1])
    names = {(row["name"], row["bytes"], row["form"]) for row in record["rows"]}
    for name in ("MATH", "classifier bits"):
        assert {(name, size, form) for size in (2, 8) for form in ("plain", "reranked")} <= names
    for name in ("sign bits", "centered sign bits", "PCA", "ITQ", "CCA-ITQ"):
        assert {(name, 8, "plain"), (name, 8, "reranked")} <= names
    assert {("float32", 256, "plain"), ("int8", 64, "plain"), ("CCA-aligned float32", 256, "plain")} <= names
    assert "PQ" not in {row["name"] for row in record["rows"]}  # 31 training rows give no codebook of 256
    assert "31 training rows; expected at least 128" in (compared[1] / "compare.md").read_text()
    with open(compared[1] / "compare.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["mAP"] for row in rows] == [str(row["mAP"]) for row in record["rows"]]
    assert all(0 <= row["mAP_unseen"] <= 1 for row in record["rows"])
    assert Image.open(compared[1] / "compare.png").size[0] > 1000


def test_the_codes_of_the_longest_length_have_the_figures_of_their_run(compared):
    record = record_of(compared[1])
    run = json.loads((compared[1] / "runs/MATH_64/results.json").read_text())
    (row,) = (row for row in record["rows"] if (row["name"], row["bytes"], row["form"]) == ("MATH", 8, "plain"))
    for direction in ("image->text", "text->image"):
        assert row["directions"][direction]["mAP"] == pytest.approx(run["mAP"][direction], abs=0.03)  # float16 features
    unseen = json.loads((compared[1] / "runs/unseen_2/MATH_64/results.json").read_text())
    assert record["unseen"]["labels"] == unseen["unseen_labels"]
    expected = np.mean([unseen["mAP_unseen"][direction] for direction in ("image->text", "text->image")])
    assert row["mAP_unseen"] == pytest.approx(expected, abs=0.03)
    assert record["chance"]["mAP_unseen"] == pytest.approx(unseen["floor_unseen"])


def test_the_sentences_say_what_learned_codes_win_and_lose(compared):
    text = " ".join((compared[1] / "compare.md").read_text().split())
    record = record_of(compared[1])
    small = [row for row in record["rows"] if row["bytes"] <= 8]
    best = max(row["own_pair_recall@10"] for row in small)
    assert f"own-pair recall@10 {best:.3f} (" in text
    (reference,) = (row for row in record["rows"] if row["name"] == "float32")
    ours = max((row for row in small if row["name"] == "MATH"), key=lambda row: row["mAP"])
    for name, title in (("mAP", "mAP"), ("own_pair_recall@10", "own-pair recall@10")):
        assert f"{title} {ours[name] - reference[name]:+.3f}" in text


def test_a_second_time_nothing_is_trained_and_without_faiss_its_rows_are_left_out(compared, tmp_path, monkeypatch):
    flags, folder = compared
    before, trained = record_of(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    importing = builtins.__import__
    monkeypatch.setattr("importlib.import_module", lambda name, *rest: refuse(name) or importing(name, *rest))
    assert main([*flags, "--unseen-labels", "0"]) == 0
    after = record_of(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")} == trained
    assert "pip install 'math_hash[search]'" in after["notes"][0]
    mean = {(row["name"], row["bytes"], row["form"]): row["mAP"] for row in before["rows"]}
    assert all(row["mAP"] == mean[row["name"], row["bytes"], row["form"]] for row in after["rows"])


def test_python_compares_as_the_command_does(compared, tiny_dataset, clip_file):
    _, folder = compared
    before = record_of(folder)
    options = {"dataset_root": str(tiny_dataset.parent), "dataset": "tiny", "clip_path": str(clip_file)}
    options |= {"resolution": 32, "max_words": 12, "query_num": 10, "train_num": 40, "val_num": 9, "batch_size": 8}
    options |= {"epochs": 1, "num_workers": 0, "tracker": [], "cache_dir": str(folder.parent / "cache")}
    record = math_hash.compare(folder, (64, 16), unseen_labels=0, **options)
    assert [row["mAP"] for row in record["rows"] if row["name"] == "MATH"] == [
        row["mAP"] for row in before["rows"] if row["name"] == "MATH"
    ]
    with pytest.raises(InputError, match="epoch: no such option"):
        math_hash.compare(folder, epoch=1)


def refuse(name):
    if name == "faiss":
        raise ImportError(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--code-lengths", "0"], "--k-bits 0: is below 1"),
        (["--epochs", "2"], "the run has --epochs 1"),
        (["--runs", "nowhere"], "--runs nowhere: holds no finished run"),
        (["--batch-size", "auto"], "--batch-size auto: runs that are compared"),
        (["--unseen-labels", "1"], "--unseen-labels 1: .*has 3 labels"),
    ],
)
def test_bad_options_are_one_line(compared, capsys, change, message):
    assert main([*compared[0], *change]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_run_that_exists_is_taken_and_gives_shorter_codes(compared, tiny_dataset, tmp_path, capsys):
    run = str(compared[1] / "runs/MATH_64")
    common = ["compare", "--runs", run, "--unseen-labels", "0", "--output", str(tmp_path), "--code-lengths", "8"]
    assert main(common) == 0
    assert not (tmp_path / "runs/MATH_8").exists()
    assert {row["bytes"] for row in record_of(tmp_path)["rows"] if row["name"] == "MATH"} == {1}
    assert main([*common, "--query-num", "12"]) == 2
    assert "was trained with --query-num 10; leave it out" in capsys.readouterr().err
    assert main([*common, "--code-lengths", "128"]) == 2
    assert "the longest run has 64 bits" in capsys.readouterr().err
