"""Labels that are never trained on: `--unseen-labels`."""

import json

import numpy as np
import pytest
import scipy.io
from training.runs import run_folder

import math_hash
from math_hash import InputError
from math_hash.cli import main_py
from math_hash.config import make_config
from math_hash.data import read_dataset
from math_hash.evaluation import chance_level, mean_average_precision
from math_hash.training import loop
from math_hash.training.setup import open_data


def test_unseen_labels_reach_no_training_and_are_evaluated_alone(
    tiny_flags, tiny_dataset, tmp_path, monkeypatch, capsys
):
    given = []
    train = loop.train
    monkeypatch.setattr(loop, "train", lambda config, on, data: (given.append(data), train(config, on, data))[1])
    flags = [*tiny_flags, "--unseen-labels", "2", "--epochs", "1", "--tracker"]
    assert main_py(["--is-train", *flags]) == 0
    folder = read_dataset(tiny_dataset)
    results = json.loads((run_folder(flags) / "results.json").read_text())
    unseen = [folder.label_names.index(name) for name in results["unseen_labels"]]
    assert len(unseen) == 2

    # training was given neither rows nor columns of unseen labels, but all other rows of the split
    (data,) = given
    plain = open_data(make_config({"dataset_root": str(tiny_dataset.parent), "dataset": "tiny", "query_num": 10,
                                   "train_num": 40, "val_num": 9, "is_train": True}))  # fmt: skip
    carries = folder.labels[:, unseen].any(axis=1)
    for part in ("train", "val"):
        rows = getattr(plain.split, part)
        assert getattr(data.split, part).tolist() == rows[~carries[rows]].tolist()
        assert carries[rows].any()
    assert (data.folder.labels == np.delete(folder.labels, unseen, axis=1)).all()
    assert data.folder.label_names == [name for name in folder.label_names if name not in results["unseen_labels"]]
    assert (data.split.database == plain.split.database).all()

    # the numbers, computed again from the exported codes
    codes = scipy.io.loadmat(run_folder(flags) / "PR_curve/MATH-tiny-12.mat")
    assert codes["q_l"].shape[1] == 3
    query, database = (codes[name][:, unseen].any(axis=1) for name in ("q_l", "r_l"))
    labels = codes["q_l"][query][:, unseen], codes["r_l"][database][:, unseen]
    for direction, keys in (
        ("image->text", ("q_img", "r_txt")), ("text->image", ("q_txt", "r_img")),
        ("image->image", ("q_img", "r_img")), ("text->text", ("q_txt", "r_txt")),
    ):  # fmt: skip
        found = mean_average_precision(codes[keys[0]][query], codes[keys[1]][database], *labels)
        assert results["mAP_unseen"][direction] == pytest.approx(found)
    assert results["floor_unseen"] == pytest.approx(chance_level(*labels))
    assert (results["queries_unseen"], results["database_unseen"]) == (query.sum(), database.sum())
    assert f"{results['mAP_unseen']['image->text']:.4f}" in capsys.readouterr().out

    again = [*flags, "--pretrained", str(run_folder(flags)), "--save-dir", str(tmp_path / "again")]
    assert main_py(again) == 0
    assert json.loads((tmp_path / "again/results.json").read_text())["mAP_unseen"] == results["mAP_unseen"]
    again[-1] += "2"
    assert main_py([*again, "--split-seed", "3"]) == 2  # other labels are unseen
    assert "is not known to have been trained without" in capsys.readouterr().err


def test_a_model_that_may_have_seen_the_labels_is_refused(trained_run, tiny_dataset):
    options = {
        "dataset_root": str(tiny_dataset.parent),
        "dataset": "tiny",
        "query_num": 10,
        "train_num": 30,
        "val_num": 5,
    }
    with pytest.raises(InputError, match="is not known to have been trained without"):
        math_hash.evaluate(trained_run, **options, k_bits=16, unseen_labels=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unseen_labels": 1}, "`unseen_labels` 1: .*tiny has 3 labels; expected at least 2 and less than all"),
        ({"unseen_labels": 3}, "`unseen_labels` 3: .*tiny has 3 labels"),
        ({"unseen_labels": 2, "train_num": 3, "val_num": 1}, "`unseen_labels` 2: leaves . training rows, .* 0 val"),
    ],
)
def test_numbers_that_leave_nothing_are_one_clear_line(tiny_dataset, change, message):
    options = {"dataset_root": str(tiny_dataset.parent), "dataset": "tiny", "query_num": 10, "train_num": 40}
    with pytest.raises(InputError, match=message):
        open_data(make_config({**options, "val_num": 9, "is_train": True, **change}))
