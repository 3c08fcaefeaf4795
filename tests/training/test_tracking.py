"""Losses and mAP in the trackers that --tracker names."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.runs import metrics

from math_hash.cli import main_py
from math_hash.training import tracking


def test_tensorboard_shows_the_recorded_values(tiny_flags, tmp_path):
    assert main_py(["--is-train", *tiny_flags]) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    records = metrics(tmp_path / "run")
    logged = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert {"loss/total", "loss/intra", "lr", "clip_lr", "samples_per_second", "mAP/image->text"} <= set(logged)
    for tag, value in (("loss/total", "loss"), ("lr", "lr"), ("clip_lr", "clip_lr")):
        assert [step for step, _ in logged[tag]] == [4, 8]
        assert [number for _, number in logged[tag]] == pytest.approx([record[value] for record in records])
    precisions = [record["mAP"]["text->image"] for record in records]
    assert [number for _, number in logged["mAP/text->image"]] == pytest.approx(precisions)


def test_a_run_needs_no_tracker(tiny_flags, tmp_path):
    assert main_py(["--is-train", *tiny_flags, "--epochs", "1", "--tracker"]) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_mlflow(tiny_flags, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db" if _has_sqlalchemy() else "")
    if not _has_sqlalchemy():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert main_py(["--is-train", *tiny_flags, "--epochs", "1", "--tracker", "tensorboard", "mlflow"]) == 0
    (found,) = mlflow.MlflowClient().search_runs(
        [experiment.experiment_id for experiment in mlflow.search_experiments(filter_string="name = 'math_hash'")]
    )
    (record,) = metrics(tmp_path / "run")
    assert found.data.metrics["loss/total"] == pytest.approx(record["loss"])
    assert found.data.metrics["mAP/image to text"] == pytest.approx(record["mAP"]["image->text"])
    assert found.data.params["k_bits"] == "12"


def _has_sqlalchemy():
    try:
        import sqlalchemy  # noqa: F401
    except ImportError:
        return False
    return True


def test_wandb_offline(tiny_flags, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main_py(["--is-train", *tiny_flags, "--epochs", "1", "--tracker", "wandb"]) == 0
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert b"mAP/image->text" in content
    assert b"k_bits" in content


def test_a_tracker_that_is_not_installed_is_one_line(tiny_flags, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    assert main_py(["--is-train", *tiny_flags, "--tracker", "wandb"]) == 2
    assert "--tracker wandb: is not installed; pip install wandb" in capsys.readouterr().err
