"""Training on a user's own collection: a split that fits it, rows without labels or texts, several texts per row."""

import json

import numpy as np
import pytest
import scipy.io
from conftest import make_tiny_dataset

import math_hash
from math_hash.cli import main
from math_hash.config import make_config
from math_hash.data import PairDataset, read_dataset, write_dataset
from math_hash.data.images import ImageTransform


@pytest.fixture
def own(tmp_path):
    """Write a dataset with the tiny pictures: (labels, captions, texts) -> its root."""
    made = read_dataset(make_tiny_dataset(tmp_path / "source", rows=60))

    def write(labels=None, captions=None, texts=None):
        labels = made.labels if labels is None else labels
        write_dataset(
            tmp_path / "sets/mine",
            images=made.images,
            captions=captions or [caption or "dark" for caption in made.captions],
            labels=labels,
            label_names=["red", "green", "blue"][: labels.shape[1]],
            protocol="own",
            image_root=made.path,
            texts=texts,
            allow_unlabelled=True,
            details={"split": {"query_num": 12, "train_num": 40, "val_num": 8}},
        )
        return tmp_path / "sets"

    return write


@pytest.fixture
def flags(clip_file, tmp_path):
    return [
        "--dataset-root", str(tmp_path / "sets"), "--dataset", "mine", "--clip-path", str(clip_file),
        "--resolution", "32", "--max-words", "12", "--batch-size", "8", "--epochs", "2", "--lr", "0.001",
        "--num-workers", "0", "--transformer-layers", "1", "--save-dir", str(tmp_path / "run"),
    ]  # fmt: skip


def test_the_sizes_of_the_split_come_from_the_manifest(own):
    root = own()
    config = make_config({"dataset": "mine", "dataset_root": str(root), "is_train": True, "query_num": 9})
    assert (config.query_num, config.train_num, config.val_num) == (9, 40, 8)


@pytest.mark.slow
def test_rows_without_labels_are_left_out(own, flags, tmp_path):
    labels = np.zeros((60, 3), np.uint8)
    labels[:50, 0], labels[30:50, 1] = 1, 1
    own(labels=labels)
    assert main(["train", *flags]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["method"] == "MATH"
    assert results["queries"] + results["database"] == 50
    codes = scipy.io.loadmat(tmp_path / "run/PR_curve/MATH-mine-16.mat")
    assert codes["q_l"].any(axis=1).all()
    assert codes["r_l"].any(axis=1).all()
    assert "10 rows have no label" in (tmp_path / "run/train.log").read_text()


@pytest.mark.slow
def test_without_any_label_a_method_that_needs_none_is_trained(own, flags, tmp_path, capsys):
    own(labels=np.zeros((60, 0), np.uint8))
    assert main(["train", *flags, "--epochs", "8", "--clip-lr", "0.001"]) == 0
    assert "mine has no labels, which MATH needs; training DJSRH instead" in capsys.readouterr().out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["method"], results["relevance"]) == ("DJSRH", "own pair")
    assert (results["queries"], results["database"]) == (12, 12)
    assert list(results["mAP"]) == ["image->text", "text->image"]
    assert results["mAP_without_training_rows"] is None
    assert results["mAP"]["image->text"] > results["floor"]
    model = math_hash.load_model(tmp_path / "run")
    assert model.encode_text(["red and blue"]).shape == (1, 2)
    assert main(["evaluate", str(tmp_path / "run"), "--save-dir", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again/results.json").read_text())["mAP"] == results["mAP"]


def test_neither_labels_nor_texts_is_one_clear_line(own, flags, capsys, tmp_path):
    own(labels=np.zeros((60, 0), np.uint8), captions=[""] * 59 + ["one"])
    assert main(["train", *flags]) == 2
    assert "no rows are left for queries or for training" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_several_texts_are_drawn_in_training_and_never_in_evaluation(own, flags, tmp_path, tiny_dataset):
    captions = [f"number {row}" for row in range(60)]
    texts = [[caption, f"{caption} again", f"{caption} once more"] for caption in captions]
    texts[7] = [captions[7]]
    data = read_dataset(own(captions=captions, texts=texts) / "mine")

    def tokenize(given, length):
        return np.array([[len(text)] * length for text in given])

    pairs = PairDataset(data, tokenize, ImageTransform(8, (0, 0, 0), (1, 1, 1)), 4)
    drawn = [[int(pairs.for_training(draw=(1, epoch))[row]["text"][0]) for row in range(60)] for epoch in range(20)]
    assert drawn == [
        [int(pairs.for_training(draw=(1, epoch))[row]["text"][0]) for row in range(60)] for epoch in range(20)
    ]
    lengths = [{epoch[row] for epoch in drawn} for row in range(60)]
    assert lengths[7] == {len(captions[7])}
    assert all(len(drawn_lengths) == 3 for row, drawn_lengths in enumerate(lengths) if row != 7)
    for other in (pairs, pairs.for_training(), pairs.with_streams(("text",))):
        assert [int(other[row]["text"][0]) for row in range(60)] == [len(caption) for caption in captions]

    runs = {}
    for name, more in {"plain": [], "drawn": ["--draw-captions"], "again": ["--draw-captions"]}.items():
        assert main(["train", *flags[:-1], str(tmp_path / name), *more]) == 0
        runs[name] = [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert runs["drawn"] == runs["again"] != runs["plain"]
