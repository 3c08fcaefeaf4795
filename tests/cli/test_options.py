"""Every option of every command has an effect, or is refused: an option without one does not exist."""

import argparse
import re
import shlex
import shutil
import sys
from dataclasses import fields
from typing import ClassVar

import pytest

from math_hash import cli
from math_hash.cli.flags import METHOD_NAMES, given_options
from math_hash.cli.trained_model import TRAINING_ONLY
from math_hash.config import RELEASE_OPTIONS, Config, make_config
from math_hash.methods import METHODS


class Recorded(argparse.Namespace):
    """Flags that remember which of them were read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name):
        Recorded.read.add(name)
        return super().__getattribute__(name)


class RecordedDict(dict):
    """The same, for commands that take a dictionary."""

    def __getitem__(self, name):
        Recorded.read.add(name)
        return super().__getitem__(name)

    def pop(self, name):
        Recorded.read.add(name)
        return super().pop(name)


def parser_of(command):
    [group] = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return group.choices[command]


def options_of(command):
    """Destinations of the options that --help shows, and of the arguments."""
    actions = parser_of(command)._actions
    return {action.dest for action in actions if action.help != argparse.SUPPRESS} - {"help"}


def call(monkeypatch, *arguments):
    """Run a command; returns what it read of its flags."""
    flags = vars(cli._parser().parse_args([str(argument) for argument in arguments]))
    handler = flags.pop("handler")
    Recorded.read = set()
    with monkeypatch.context() as patch:
        patch.setattr(argparse, "Namespace", Recorded)
        assert cli.exit_code(lambda: handler(RecordedDict(flags))) == 0
    return Recorded.read


@pytest.fixture(scope="module")
def encoded(trained_run, tiny_dataset, tmp_path_factory):
    """Codes of the tiny dataset and an index of them, and what `encode` and `index` read of their flags."""
    folder = tmp_path_factory.mktemp("encoded")
    with pytest.MonkeyPatch.context() as patch:
        codes = ["encode", trained_run, tiny_dataset, "--output", folder / "codes", "--num-workers", 0, "--bits", 16]
        index = ["index", folder / "codes", "--output", folder / "index", "--update"]
        read = {"encode": call(patch, *codes), "index": call(patch, *index)}
    return folder, read


@pytest.mark.parametrize("command", ["encode", "index"])
def test_every_option_of_encode_and_index_is_read(encoded, command):
    assert options_of(command) <= encoded[1][command]


def test_every_option_of_commands_for_a_collection_is_read(
    encoded, trained_run, tiny_dataset, clip_file, tmp_path, monkeypatch
):
    folder, _ = encoded
    index, run = folder / "index", trained_run
    monkeypatch.setattr("math_hash.retrieval.server.serve.serve", lambda app, host, port: None)
    (tmp_path / "photos").mkdir()
    shutil.copy(tiny_dataset / "0.png", tmp_path / "photos")
    search = ["search", index, "--model", run, "--bits", 16, "--text"]
    calls = {
        "search": [
            [*search, "red", "--output", tmp_path / "page.html", "--image-root", tiny_dataset],
            [*search, "red", "--radius", 3, "--filter", "label=red"],
        ],
        "serve": [["serve", index, "--model", run, "--bits", 16]],
        "delete": [["delete", index, "--filter", "label=nothing"]],
        "duplicates": [["duplicates", folder / "codes", "--leaks", tiny_dataset, "--query-num", 10, "--train-num", 30]],
        "album": [["album", tmp_path / "photos", "--clip-path", clip_file, "--resolution", 32, "--no-open"]],
        "export": [["export", run, "--format", "pretrained", "--output", tmp_path / "saved"]],
    }
    for command, lines in calls.items():
        read = set().union(*(call(monkeypatch, *line) for line in lines))
        assert options_of(command) <= read, command
    shutil.copy(tiny_dataset / "1.png", tmp_path / "photos")
    assert options_of("sync") <= call(monkeypatch, "sync", tmp_path / "photos")


@pytest.mark.parametrize("action", ["check", "show"])
def test_every_option_of_dataset_is_read(tiny_dataset, tmp_path, monkeypatch, action):
    flags = ["--output", tmp_path / "rows.png"] if action == "show" else []
    read = call(monkeypatch, "dataset", action, tiny_dataset, *flags)
    [actions] = [action for action in parser_of("dataset")._actions if action.dest == "action"]
    assert {option.dest for option in actions.choices[action]._actions} - {"help"} <= read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--server", "http://127.0.0.1:1", "--text", "x", "--model", "RUN"], "--model: is of the server"),
        (["search", "--server", "http://127.0.0.1:1", "--text", "x", "--bits", "8"], "--bits: is of the server"),
        (["search", "INDEX", "--server", "http://127.0.0.1:1", "--text", "x"], "the index: is of the server"),
        (["search", "INDEX", "--id", "x", "--rerank", "none"], "--rerank: is for --text and --image"),
        (["search", "INDEX", "--model", "RUN", "--text", "x", "--token", "t"], "--token: is of a server"),
        (["search", "INDEX", "--model", "RUN", "--text", "x", "--image-root", "."], "give --output FILE too"),
        (["search", "--text", "x"], "nothing to search"),
        (["duplicates", "CODES", "--train-num", "9"], "--train-num: is for --leaks"),
        (["duplicates", "CODES", "--mismatches", "TEXTS", "--radius", "3"], "leave it out"),
        (["export", "RUN", "--format", "onnx", "--output", "x", "--compare-on", "y"], "give --quantize int8 too"),
        (["index", "CODES", "--output", "x", "--prune"], "give --update too"),
        (["evaluate", "x.mat", "--k-bits", "8"], "--k-bits: is for a trained model"),
        (["evaluate", "RUN", "--min-shared", "2"], "--min-shared: is for exported codes"),
        (["benchmark", "--lr", "1", "--learning-rates", "1", "2"], "--lr excludes --learning-rates"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("benchmark", "--memory-share"), ("benchmark", "--memory-overhead"), ("compare", "--memory-share"),
        ("compare", "--memory-overhead"), ("compare", "--ties"), ("compare", "--pretrained"),
    ],
)  # fmt: skip
def test_an_option_of_training_that_changes_nothing_is_not_there(capsys, command, option):
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, option, "1"])
    assert f"unrecognized arguments: {option}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "leak-check"])
def test_training_options_of_a_trained_model_are_refused(command, capsys):
    for action in parser_of(command)._actions:
        if action.dest in {*TRAINING_ONLY, "set", *RELEASE_OPTIONS}:
            value = [] if action.nargs == 0 else [str(action.choices[0]) if action.choices else "1"]
            assert cli.main([command, "RUN", action.option_strings[0], *value]) == 2
            assert "is for training" in capsys.readouterr().err, action.dest


@pytest.mark.parametrize("name", RELEASE_OPTIONS)
def test_every_flag_of_the_heads_changes_an_option_of_the_method(name):
    [action] = [action for action in parser_of("train")._actions if action.dest == name]
    value = [] if action.nargs == 0 else [action.choices[-1] if action.choices else "3"]
    flags = vars(parser_of("train").parse_args([action.option_strings[-1], *value]))
    changed = make_config(given_options({key: flags[key] for key in RELEASE_OPTIONS})).method_options
    assert changed[name] != make_config({}).method_options.get(name)


PROPERTIES = ("held_out", "dataset_folder")  # of `Config`, whose reads count as their callers'


@pytest.fixture(scope="module")
def read_of_config(trained_run, tiny_dataset, clip_file, tmp_path_factory):
    """What commands read of their configuration when they run, outside `math_hash.config`."""
    folder = tmp_path_factory.mktemp("runs")
    data = ["--dataset", "tiny", "--dataset-root", tiny_dataset.parent, "--num-workers", 0]
    sizes = ["--query-num", 10, "--train-num", 30, "--val-num", 5, "--resolution", 32, "--max-words", 12]
    cache = ["--cache-dir", folder / "cache"]
    result = ["--result-name", folder / "results"]
    clip = ["--clip-path", clip_file]
    several = [*data, *sizes, *clip, "--epochs", 1, "--batch-size", 8, "--tracker"]
    calls = {
        "train": [*data, *sizes, *clip, "--epochs", 1, *result, "--batch-size", "auto", "--tracker"],
        "evaluate": [trained_run, "--freeze-encoder", *cache, *result],
        "leak-check": [trained_run, "--rows", 8],
        "encode-features": [*data, *clip, "--resolution", 32, "--max-words", 12, "--output", folder / "features"],
        "benchmark": [*several, *result, "--methods", "MATH", "--k-bits", 8, "--seeds", 1, "--output", folder / "docs"],
        "compare": [*several, *cache, "--k-bits", 8, "--unseen-labels", 0, "--output", folder / "comparison"],
    }
    seen: set[str] = set()

    def recording(self, name):
        caller = sys._getframe(1)
        module = caller.f_globals["__name__"]
        if module not in ("math_hash.config", "dataclasses", "copy") or caller.f_code.co_name in PROPERTIES:
            seen.add(name)
        return object.__getattribute__(self, name)

    read = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "__getattribute__", recording)
        for command, arguments in calls.items():
            seen.clear()
            assert cli.main([command, *map(str, arguments)]) == 0
            read[command] = set(seen)
    return read


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "leak-check", "encode-features", "benchmark", "compare"])
def test_every_option_of_the_configuration_is_read(read_of_config, command):
    shown = {item.name for item in fields(Config)} & options_of(command)
    # the preset by `make_config`; the cache with --freeze-encoder; the weights are required with --encoder
    elsewhere = {"train": {"preset", "cache_dir"}, "evaluate": {"encoder_weights"}, "leak-check": {"encoder_weights"}}
    elsewhere |= {"benchmark": {"preset", "cache_dir"}, "compare": {"preset"}}
    assert shown - read_of_config[command] == elsewhere.get(command, set())


@pytest.mark.parametrize("command", [module.__name__.rpartition(".")[2].replace("_", "-") for module in cli._COMMANDS])
def test_help_of_every_command_shows_an_example_that_it_takes(command):
    examples = re.findall(rf"^  math-hash {command}(?![\w-])(.*)", parser_of(command).description, re.MULTILINE)
    assert examples
    for line in examples:
        parser_of(command).parse_args(shlex.split(line.replace("[--bits 8]", "").replace("[MORE.mat ...]", ""), True))


def test_help_names_all_methods():
    assert tuple(METHODS) == METHOD_NAMES
