"""Every method through the command line, at toy size: trained, resumed, saved, encoding."""

import json
import re

import pytest
from training.runs import SMALLER, losses

import math_hash
from math_hash.cli import main, main_py
from math_hash.methods import METHODS
from math_hash.testing import check_method

ALL = list(METHODS)


def flags_of(tiny_flags, name, folder):
    flags = ["--is-train", *tiny_flags, "--method", name, "--save-dir", str(folder / name), "--clip-lr", "0.0003"]
    return flags


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which each method is trained when its run is first needed."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run_of(trained, tiny_flags):
    def run(name):
        if not (trained / name).exists():
            assert main_py(flags_of(tiny_flags, name, trained)) == 0
        return trained / name

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_method_fulfills_the_contract(name):
    check_method(METHODS[name], SMALLER.get(name), processes=1)  # tests/training/test_processes.py tests several


@pytest.mark.slow
def test_the_most_significant_bits_are_a_code_of_their_own(run_of, tiny_flags, tmp_path, capsys):
    run = run_of("SCAHN")
    model = math_hash.load_model(run)
    texts = ["red", "green and blue", "blue"]
    whole, order = model.encode_text(texts, output="bits"), model.bit_order.numpy()
    assert sorted(order) == list(range(12))
    short = model.with_bits(5)
    assert (short.encode_text(texts, output="bits") == whole[:, order[:5]]).all()
    assert short.encode_text(texts).shape == (3, 1)
    assert model.encode_text(texts).shape == (3, 2)  # as it was
    flags = [*tiny_flags, "--method", "SCAHN", "--pretrained", str(run), "--save-dir", str(tmp_path / "short")]
    assert main_py([*flags, "--bits", "5"]) == 0
    assert json.loads((tmp_path / "short/results.json").read_text())["k_bits"] == 5
    flags[-1] += "13"
    assert main_py([*flags, "--bits", "13"]) == 2
    assert "this model has 12 bits" in capsys.readouterr().err


@pytest.mark.slow
def test_streams_learn_in_turn_or_jointly(tiny_flags, tmp_path, run_of):
    flags = flags_of(tiny_flags, "MLSPH", tmp_path)
    assert main_py([*flags, "--joint-update"]) == 0
    joint, in_turn = losses(tmp_path / "MLSPH"), losses(run_of("MLSPH"))
    assert joint[0].keys() == in_turn[0].keys()
    assert joint[1] != in_turn[1]


@pytest.mark.slow
def test_benchmark_writes_a_table_and_continues_where_it_stopped(tiny_flags, tmp_path, capsys):
    flags = tiny_flags[: tiny_flags.index("--k-bits")]
    del flags[flags.index("--lr") : flags.index("--clip-lr")]  # each method's rate is chosen
    flags += ["--result-name", str(tmp_path / "cells"), "--epochs", "1"]
    arguments = [
        "benchmark",
        "--methods",
        "DCMH",
        "MATH",
        "ITQ",
        "--bits",
        "8",
        "12",
        "--seeds",
        "2",
        "1",
        "--learning-rates",
        "0.0005",
        "0.001",
    ]
    arguments += ["--output", str(tmp_path / "docs"), *flags]
    assert main(arguments) == 0
    page = (tmp_path / "docs/leaderboard.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| DCMH |")]
    assert len(rows) == 2
    assert rows[0].count("±") == 5
    assert (
        re.search(r"[+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\] \| 2 \| 0\.0005 \|", rows[0])
        or "| 2 | 0.001 |" in rows[0]
    )
    assert re.search(r"[+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\] \| 1 \| 0\.", rows[1])
    assert "| 16 | 0.7410 / 0.7827 |" in page
    assert page.count("| float cosine |") == page.count("| chance level |") == 2
    assert (tmp_path / "docs/leaderboard.png").stat().st_size > 10000
    (removed,) = (tmp_path / "cells/tiny").glob("DCMH_8_2_lr*/results.json")
    removed.unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    assert re.findall(r"^\[\d+/9\] DCMH, 8 bits, seed 2, lr", capsys.readouterr().out, re.MULTILINE) == [
        "[7/9] DCMH, 8 bits, seed 2, lr"
    ]
    assert removed.is_file()
    assert (tmp_path / "docs/leaderboard.md").read_text() == page
    assert main(["benchmark", "--methods", "ITQ", "--bits", "8", "--seeds", "2", "1", *flags]) == 2
    assert "--seeds: 2 numbers for 1 code lengths" in capsys.readouterr().err
    assert main(["benchmark", "--methods", "XYZ", *flags]) == 2
    assert "installed are MATH" in capsys.readouterr().err
