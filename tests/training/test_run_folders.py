"""Folders of runs: named after what was run, and each one of a run's own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import SimpleNamespace

import pytest

from math_hash.config import Config
from math_hash.errors import InputError
from math_hash.training import run_folder

RACERS = 16


def race(config: Config) -> list:
    """The folders that runs which start at the same moment make, or their errors."""
    start = threading.Barrier(RACERS)

    def make(_: int):
        start.wait()
        try:
            return run_folder.Run.create(config, SimpleNamespace(protocol="own", rows_sum="")).path
        except InputError as error:
            return error

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(make, range(RACERS)))


def test_runs_that_start_in_the_same_second_do_not_share_a_folder(tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls):
            return cls(2024, 5, 6, 7, 8, 9)

    monkeypatch.setattr(run_folder, "datetime", Stopped)
    config = Config(is_train=True, method="DSPH", k_bits=32, seed=4, result_name=str(tmp_path))
    name = "2024-05-06_07-08-09_DSPH_32_seed4"
    assert {path.name for path in race(config)} == {name, *(f"{name}_{n}" for n in range(2, RACERS + 1))}
    assert all((path / "config.yaml").is_file() for path in (tmp_path / "flickr25k_32").iterdir())
    test = Config(method="a.b:Own", k_bits=32, result_name=str(tmp_path))
    assert run_folder.new_folder(test).name == "2024-05-06_07-08-09_Own_32_test"


def test_a_save_dir_that_another_run_has_just_made_is_refused(tmp_path):
    outcomes = race(Config(is_train=True, save_dir=str(tmp_path / "run")))
    assert [path for path in outcomes if not isinstance(path, InputError)] == [tmp_path / "run"]
    assert all("choose another `save_dir`" in str(error) for error in outcomes if isinstance(error, InputError))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make .*file/flickr25k_16/.*: Not a directory"):
        run_folder.new_folder(Config(result_name=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "RESULT_MATH_FLICKR"),
        ({"method": "DCMH"}, "RESULT_DCMH_FLICKR"),
        ({"dataset": "coco"}, "RESULT_MATH_COCO"),
        ({"dataset": "mine", "method": "my.module:CSQ"}, "RESULT_CSQ_MINE"),
        ({"dataset": "mine", "result_name": "elsewhere"}, "elsewhere"),
    ],
)
def test_results_are_named_after_method_and_dataset(options, name):
    assert Config(**options).result_name == name
