"""Errors in codes, labels or options are one line that names the argument."""

import importlib

import numpy as np
import pytest
import torch

from math_hash import InputError
from math_hash.evaluation import average_precision, precision_at, ranking_metrics


@pytest.mark.parametrize("path", ["compiled", "on a device"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_codes": np.full((2, 8), 0.3)}, "query_codes: holds values other than"),
        ({"query_codes": np.full((2, 8), np.nan)}, "query_codes: holds values other than"),
        ({"query_codes": np.ones((2, 9))}, "query_codes have 9 bits, database_codes 8"),
        ({"query_codes": np.ones((0, 8)), "query_labels": np.ones((0, 2))}, "query_codes: has no rows"),
        (
            {"query_codes": np.array([[-1, 0, 1, 1, 1, 1, 1, 1]] * 2)},
            "holds values other than -1/.1 or 0/1",
        ),
        ({"query_codes": np.ones((2, 32768), np.int8)}, "codes of 32,768 bits; at most 32,767 are compared"),
        ({"query_codes": np.ones((2, 4096), np.uint8)}, "codes of 32,768 bits; at most 32,767 are compared"),
        ({"relevance": lambda *_: np.full((2, 3), 0.5)}, "whole numbers 0 to 1000"),
        ({"relevance": lambda *_: np.full((2, 3), np.nan)}, "whole numbers 0 to 1000"),
        ({"database_codes": np.ones((0, 8)), "database_labels": np.ones((0, 2))}, "database_codes: has no rows"),
        ({"database_labels": np.ones((4, 2))}, "database_labels: shape .4, 2.; expected a matrix with 3 rows"),
        ({"query_labels": np.full((2, 2), 3)}, "query_labels: holds values other than 0 and 1"),
        ({"query_labels": np.ones((2, 3))}, "query_labels have 3 labels, database_labels 2"),
        ({"k_bits": 9}, "query_codes: has 8 columns, but k_bits is 9"),
        ({"query_codes": np.ones((2, 1), np.uint8), "k_bits": 9}, "1 bytes per row do not hold k_bits = 9"),
        ({"query_codes": np.full((2, 1), 255, np.uint8), "k_bits": 7}, "bits after the first 7 are set"),
        ({"query_codes": np.ones(8)}, r"query_codes: shape \(8,\)"),
        ({"ties": "random"}, "ties: 'random' is unknown; choose from index"),
        ({"normalizer": "all"}, "normalizer: 'all' is unknown"),
        ({"no_relevant": "drop"}, "no_relevant: 'drop' is unknown"),
        ({"top_k": 0}, "top_k: 0; expected at least 1"),
        ({"min_shared": 0}, "min_shared: 0"),
    ],
)
def test_bad_input_names_the_argument(monkeypatch, path, change, message):
    arguments = {
        "query_codes": np.ones((2, 8)),
        "database_codes": np.ones((3, 8)),
        "query_labels": np.ones((2, 2)),
        "database_labels": np.ones((3, 2)),
    }
    arguments |= change
    if path == "on a device":
        module = importlib.import_module("math_hash.evaluation.average_precision")
        monkeypatch.setattr(module, "lies_on_accelerator", lambda codes: True)
        arguments = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }
    with pytest.raises(InputError, match=message):
        average_precision(**arguments)


@pytest.mark.parametrize("at", [0, [], [5, -1]])
def test_cutoff_ranks_are_at_least_1(at):
    codes, labels = np.ones((2, 8)), np.ones((2, 1))
    with pytest.raises(InputError, match="expected cut-off ranks of at least 1"):
        precision_at(codes, codes, labels, labels, at=at)
    with pytest.raises(InputError, match="expected cut-off ranks of at least 1"):
        ranking_metrics(codes, codes, labels, labels, at=np.atleast_1d(at))
