"""`math-hash benchmark`: what it hands to the training of each method."""

import pytest

from math_hash.cli import benchmark, main
from math_hash.errors import InputError


@pytest.fixture
def trainings(monkeypatch):
    """The options of each training that is asked for; none is carried out."""
    asked = []

    def train_with(given):
        asked.append(given)
        raise InputError("not trained here")

    monkeypatch.setattr(benchmark, "train_with", train_with)
    monkeypatch.setattr("math_hash.training.leaderboard.float_reference", lambda config, folder: {})
    return asked


@pytest.mark.parametrize("method", ["Pairwise", "MITH"])
def test_presets_of_math_do_not_reach_another_method(trainings, tmp_path, method):
    command = ["benchmark", "--methods", method, "--bits", "16", "--seeds", "1", "--dataset", "tiny", "--features", "F"]
    assert main([*command, "--result-name", str(tmp_path)]) == 2
    assert [given["method"] for given in trainings] == [method]
    assert trainings[0]["method_options"] == {}


def test_options_that_are_given_reach_the_methods_that_take_them(trainings, tmp_path):
    command = ["benchmark", "--methods", "DSPH", "--bits", "16", "--seeds", "1", "--dataset", "tiny", "--features", "F"]
    assert main([*command, "--result-name", str(tmp_path), "--set", "repulsion=0.5"]) == 2
    assert trainings[0]["method_options"] == {"repulsion": 0.5}
