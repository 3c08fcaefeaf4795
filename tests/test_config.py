"""Making one configuration from flags, YAML files and presets."""

from importlib.resources import files

import pytest
import yaml

from math_hash import InputError
from math_hash.cli import main_py
from math_hash.config import Config, as_yaml, make_config, parse_setting, read_yaml
from math_hash.methods import METHODS, complete_options

PRESETS = files("math_hash") / "methods" / "presets"
FACTS = {"num_labels": 4, "stage_widths": (8, 8)}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("setting", [{"dataset": "demo"}, {"features": "x"}, {"preset": "authors"}])
def test_the_presets_of_a_method_set_what_it_takes(name, setting):
    config = make_config({"method": name, **setting})
    complete_options(name, config.method_options, FACTS)


def test_presets_hold_only_known_sections():
    for preset in PRESETS.iterdir():
        if preset.name.endswith(".yaml") and preset.name != "features.yaml":
            assert preset.name.removesuffix(".yaml") in METHODS
            assert yaml.safe_load(preset.read_text()).keys() <= {"authors", "features", "demo"}


def test_authors_settings_can_be_chosen_instead_of_ours():
    ours, authors = (make_config({"method": "DSPH", "dataset": "demo", "preset": p}) for p in ("ours", "authors"))
    assert (ours.lr, ours.epochs, ours.batch_size) == (0.0003, 6, 64)
    assert (authors.lr, authors.clip_lr, authors.epochs, authors.weight_decay) == (0.001, 0.00001, 100, 0.2)
    assert authors.encoder == "demo"


def test_each_option_comes_from_the_first_source_that_sets_it(tmp_path):
    (tmp_path / "own.yaml").write_text("epochs: 7\nmethod_options: {hyper_MSE: 3, hyper_quan: 4}\n")
    given = {"features": "x", "config": str(tmp_path / "own.yaml"), "method_options": {"hyper_quan": 5}, "lr": 0.5}
    config = make_config(given)
    preset = {"transformer_layers": 0, "fusion": "token", "hyper_contrast": 0.1}
    assert config.method_options == {**preset, "hyper_MSE": 3, "hyper_quan": 5}
    assert (config.epochs, config.lr, config.num_workers) == (7, 0.5, 0)


def test_a_yaml_file_may_hold_options_under_the_releases_flag_names(tmp_path):
    (tmp_path / "own.yaml").write_text("hyper_intra: 2\nmask_padding: false\n")
    assert read_yaml(tmp_path / "own.yaml")["method_options"] == {"hyper_intra": 2, "mask_padding": False}
    (tmp_path / "own.yaml").write_text("method_options: centered=true quan=0.5\n")  # as earlier versions wrote it
    assert read_yaml(tmp_path / "own.yaml")["method_options"] == {"centered": True, "quan": 0.5}
    (tmp_path / "own.yaml").write_text("method_options: [1]\n")
    with pytest.raises(InputError, match="expected a mapping"):
        read_yaml(tmp_path / "own.yaml")


def test_a_configuration_is_written_and_read_again(tmp_path):
    config = make_config({"dataset": "demo", "method": "SCAHN", "method_options": {"inter": 2.0}, "tracker": []})
    (tmp_path / "config.yaml").write_text(as_yaml(config))
    assert Config(**read_yaml(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1), ("a=0.2", 0.2), ("a=true", True), ("a=word", "word"), ("a=[64, 128]", [64, 128]), ("a=", None),
        ("a=[x, y]", ["x", "y"]), ("a=b=c", "b=c"),
    ],
)  # fmt: skip
def test_settings_are_read_as_yaml(text, value):
    assert parse_setting(text) == ("a", value)


@pytest.mark.parametrize("text", ["a", "=1", "a b=1", "a=[1"])
def test_settings_of_another_form_are_refused(text):
    with pytest.raises(InputError, match="method_options"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "DCMH", "--hyper-intra", "4"], "hyper_intra: DCMH has none of that name; it takes gamma=1.0"),
        (["--method", "DSPH", "--no-mask-padding"], "mask_padding: DSPH has none of that name"),
        (["--set", "margin=0.2"], "margin: MATH has none of that name"),
        (["--set", "hyper_intra=[1,2]"], "--set hyper_intra=[1, 2]: expected float"),
        (["--set", "hyper_intra"], "--set hyper_intra: expected NAME=VALUE"),
        (["--method", "nowhere.at_all:M"], "nowhere.at_all:M is not installed"),
    ],
)
def test_an_option_that_a_method_does_not_have_is_one_line(tiny_flags, capsys, flags, message):
    assert main_py(["--is-train", *tiny_flags, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_method_with_a_hyphen_in_its_name_has_its_preset():
    config = make_config({"dataset": "demo", "method": "DMsH-LN"})
    assert config.method_options == {"similar": "labels"}
    assert config.lr == 0.0003
