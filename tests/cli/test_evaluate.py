"""`math-hash evaluate`: what it evaluates, and that no flag is ignored."""

import json
from dataclasses import fields

import pytest

from math_hash.cli import main
from math_hash.cli.trained_model import _OF_DATASET, TRAINING_ONLY, options_of
from math_hash.config import Config


def error_of(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def export_of(run):
    return next((run / "PR_curve").glob("*.mat"))


def test_a_run_alone_is_evaluated_as_it_was_trained(trained_run, tmp_path, capsys):
    assert main(["evaluate", str(trained_run), "--save-dir", str(tmp_path / "again")]) == 0
    first, again = (json.loads((run / "results.json").read_text()) for run in (trained_run, tmp_path / "again"))
    for name in first.keys() - {"seconds", "model"}:
        assert again[name] == first[name], name
    assert (
        export_of(tmp_path / "again").read_bytes()[128:] == export_of(trained_run).read_bytes()[128:]
    )  # after the date
    assert f"own pair, image->text: recall@1 {first['own_pair_recall']['image->text']['recall@1']:.4f}" in (
        capsys.readouterr().out
    )


def test_a_run_is_evaluated_with_fewer_bits(trained_run, tmp_path):
    flags = ["--bits", "8", "--save-dir", str(tmp_path / "eight"), "--ties", "expected"]
    assert main(["evaluate", str(trained_run), *flags]) == 0
    results = json.loads((tmp_path / "eight/results.json").read_text())
    assert (results["k_bits"], results["ties"]) == (8, "expected")


def test_on_another_dataset_a_run_has_that_datasets_split(trained_run):
    own = options_of(trained_run, {})
    assert (own["query_num"], own["k_bits"], own["is_train"]) == (10, 16, False)
    other = options_of(trained_run, {"dataset": "flickr25k"})
    assert (other["dataset"], other["k_bits"], other["resolution"]) == ("flickr25k", 16, 32)
    assert not other.keys() & set(_OF_DATASET)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top-k", 5], "--top-k: is for exported codes"),
        (["--no-relevant", "zero"], "--no-relevant: is for exported codes"),
        (["--output", "report"], "--output: is for exported codes"),
        (["--allow-different"], "--allow-different: is for exported codes"),
        (["--epochs", 3], "--epochs: is for training"),
        (["--set", "a=1"], "--set: is for training"),
        (["--hyper-intra", 4], "--hyper-intra: is for training"),
        (["--label_t-file", "x.mat", "--lr", 1], "--lr: is for training"),
        (["--pretrained", "other"], "already names a model"),
        (["--config", "x.yaml"], "already names a model"),
    ],
)
def test_flags_that_change_nothing_in_a_trained_model_are_refused(trained_run, capsys, flags, message):
    assert message in error_of(capsys, trained_run, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bits", 8], "--bits: exported codes do not say which bits are the most significant; evaluate the run"),
        (["--dataset", "tiny"], "--dataset: is for a trained model"),
        (["--label_t-file", "x.mat"], "--label_t-file: is for a trained model"),
        (["--pretrained", "run"], "--pretrained: is for a trained model"),
        (["--epochs", 3], "--epochs: is for a trained model"),
        (["--config", "x.yaml"], "--config: is for a trained model"),
    ],
)
def test_flags_that_change_nothing_in_exported_codes_are_refused(trained_run, tmp_path, capsys, flags, message):
    assert message in error_of(capsys, export_of(trained_run), *flags)


def test_what_cannot_be_evaluated_is_one_clear_line(trained_run, tmp_path, capsys):
    assert "no such file or folder" in error_of(capsys, tmp_path / "nowhere")
    assert "expected one trained model, or .mat files" in error_of(capsys, trained_run, trained_run)
    assert "expected one trained model, or .mat files" in error_of(capsys, trained_run, export_of(trained_run))
    assert "nothing to do" in error_of(capsys)


def test_every_name_of_a_flag_is_a_field_of_the_configuration():
    assert {*TRAINING_ONLY, *_OF_DATASET} <= {item.name for item in fields(Config)}


def test_help_shows_only_what_applies(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out
    assert "--top-k" in text
    assert "--query-num" in text
    assert not any(flag in text for flag in ("--epochs", "--hyper-intra", "--set ", "options of the method"))
