"""The shell around the commands: names, aliases, versions, completion, and the commands that run others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from math_hash import __version__, cli
from math_hash.cli import demo, main
from math_hash.data.images import open_image
from math_hash.errors import InputError
from math_hash.models.device import choose_device


def parsed(*arguments):
    return vars(cli._parser().parse_args([str(argument) for argument in arguments]))


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        (["search", "i", "--model", "m", "--text", "x"], ["--top", "3"], ["--top-k", "3"]),
        (["search", "i", "--model", "m", "--text", "x"], ["--images", "p"], ["--image-root", "p"]),
        (["search", "i", "--model", "m", "--text", "x"], ["--html", "p"], ["--output", "p"]),
        (["serve", "i", "--model", "m"], ["--images", "p"], ["--image-root", "p"]),
        (["index", "c"], ["--to", "i"], ["--output", "i"]),
        (["benchmark"], ["--bits", "8", "16"], ["--k-bits", "8", "16"]),
        (["compare"], ["--code-lengths", "8", "16"], ["--k-bits", "8", "16"]),
    ],
)
def test_old_names_of_options_still_work_and_are_not_shown(command, old, new, capsys):
    flags = [{k: v for k, v in parsed(*command, *name).items() if k != "handler"} for name in (old, new)]
    assert flags[0] == flags[1]
    with pytest.raises(SystemExit):
        main([command[0], "--help"])
    shown = capsys.readouterr().out.split()
    assert new[0] in shown or f"({new[0]}" in shown
    if old[0] != "--bits":
        assert old[0] not in shown


@pytest.mark.parametrize("name", ["custom", "flickr25k", "nuswide", "coco", "iaprtc12"])
def test_datasets_take_the_old_name_of_the_image_root(name):
    from importlib import import_module

    parser = import_module(f"math_hash.data.building.{name}").make_parser("make")
    source = ["rows.csv"] if name == "custom" else ["--raw", "r"]
    assert parser.parse_args([*source, "--images", "p"]) == parser.parse_args([*source, "--image-root", "p"])


def test_datasets_are_made_by_the_installed_command(tmp_path, capsys):
    assert main(["dataset", "make", "demo", "--output", str(tmp_path / "demo"), "--rows", "20"]) == 0
    assert "20 scenes" in capsys.readouterr().out
    assert main(["dataset", "make", "coco", "--raw", str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit):
        main(["dataset", "make", "coco", "--help"])
    assert "usage: math-hash dataset make coco [-h] (--raw RAW | --lists LISTS)" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"math_hash {__version__}\n"


def test_the_shell_completes_commands_and_options(tmp_path):
    pytest.importorskip("argcomplete", reason="the extra `completion` is not installed")
    for line, wanted in (("math-hash dup", "duplicates"), ("math-hash search --top", "--top-k")):
        environment = os.environ | {
            "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": "out",
            "PYTHONPATH": str(Path(cli.__file__).parents[2]),
        }  # fmt: skip
        subprocess.run([sys.executable, "-m", "math_hash"], env=environment, cwd=tmp_path, timeout=60)
        assert wanted in (tmp_path / "out").read_text().split(), line


@pytest.fixture
def called(monkeypatch):
    """The commands that the demo runs, parsed but not run."""
    lines = []

    def call(command, *arguments):
        lines.append([str(argument) for argument in arguments])
        parsed(*arguments)

    monkeypatch.setattr(demo, "_call", call)
    return lines


def test_the_demo_does_what_is_left_to_do(called, tmp_path):
    run = tmp_path / "RESULT_MATH_DEMO" / "demo_16" / "first"
    assert main(["demo", "--output", str(tmp_path)]) == 0
    assert [line[0] for line in called] == ["dataset", "train", "encode", "index", "serve"]
    assert str(run) in called[1]
    for made, wanted in (
        (tmp_path / "dataset" / "demo" / "manifest.json", ["train", str(run)]),
        (run / "config.yaml", ["--resume", str(run)]),
        (run / "results.json", ["evaluate", str(run)]),
    ):
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text("{}")
        called.clear()
        assert main(["demo", "--output", str(tmp_path), "--no-serve"]) == 0
        assert len(called) == 1
        assert set(wanted) <= set(called[0])


def test_the_demo_without_a_server_says_so_at_once(called, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert "--no-serve" in capsys.readouterr().err
    assert not called


def test_a_device_that_is_not_there_is_one_line():
    assert choose_device("cpu").type == "cpu"
    for name in ("cuda:99", "quantum"):
        with pytest.raises(InputError, match=f"`device` {name}: cannot be used here"):
            choose_device(name)


def test_odd_metadata_of_a_picture_warns_nobody(tmp_path, recwarn):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f\x01\x02\0\xff\0\0\0\xff\0\0\0"  # cut off
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.jpg", exif=exif)
    ImageOps.exif_transpose(Image.open(tmp_path / "odd.jpg"))
    assert any("Corrupt EXIF data" in str(warning.message) for warning in recwarn)  # what Pillow says of it
    recwarn.clear()
    assert open_image(tmp_path / "odd.jpg").size == (8, 8)
    assert not len(recwarn)


@pytest.mark.parametrize("port", ["x", "-1", "65536", "²"])
def test_a_port_is_a_number_that_ports_have(port, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["serve", "index", "--model", "run", "--port", port])
    assert stop.value.code == 2
    assert f"--port: expected a number from 0 to 65535, not '{port}'" in capsys.readouterr().err
