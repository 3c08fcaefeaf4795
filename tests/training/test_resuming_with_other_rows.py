"""A run is resumed with the rows that it was started with."""

import shutil

import yaml

from math_hash.cli import main_py
from math_hash.data import read_dataset, write_mat
from math_hash.training.run_folder import Run


def test_a_dataset_with_other_rows_is_refused_and_a_copy_is_not(trained_run, tiny_dataset, tmp_path, capsys):
    copy = tmp_path / "copies/tiny"
    shutil.copytree(tiny_dataset, copy)
    recorded = yaml.safe_load((trained_run / "config.yaml").read_text())["environment"]["rows_sum"]
    assert recorded == read_dataset(copy).rows_sum
    Run(trained_run).require_rows(read_dataset(copy))
    captions = read_dataset(copy).captions
    write_mat(copy / "caption.mat", {"caption": [*captions[1:], captions[0]]})
    before = {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()}
    assert main_py(["--resume", str(trained_run), "--dataset-root", str(copy.parent)]) == 2
    assert "has other rows than when the run was started" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_goes_on_with_the_rows_that_it_was_trained_on(trained_run, tiny_dataset, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    assert "split_seed: 1\n" in config
    (run / "config.yaml").write_text(config.replace("split_seed: 1\n", "split_seed: 2\n"))
    before = (run / "metrics.jsonl").read_bytes()
    assert main_py(["--resume", str(run)]) == 2
    assert "its checkpoint was trained on other rows" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before
