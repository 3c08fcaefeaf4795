"""The benchmarks run at small sizes; mypy checks their calls of the package."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Import one of the benchmarks by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_an_engine_is_timed_with_few_queries(benchmark, monkeypatch):
    pytest.importorskip("faiss")
    engines = benchmark("engines")
    monkeypatch.setattr(engines, "SECONDS", 0.01)
    asked = []

    def search(queries, top):
        asked.append(len(queries))
        return found(queries, top)

    codes = np.random.default_rng(0).integers(0, 256, (500, 8), np.uint8)
    found = engines.ENGINES["faiss-flat"].build(codes, 64)
    seconds = engines.timings(search, codes[:2], 5)
    assert min(asked) == 1
    assert max(asked) == 2
    assert min(seconds.values()) > 0


def test_the_join_finds_the_pairs_of_the_brute_force(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["join.py", "--rows", "2000", "--plain-rows", "1000", "--radius", "2"])
    benchmark("join").main()
    assert capsys.readouterr().out.count("same number of pairs: True") == 2
