"""The scripts in tools/make_datasets, which call the package."""

import importlib
import subprocess
import sys

import pytest
from conftest import TOOLS, load_tool

NAMES = ("coco", "custom", "demo", "embeddings", "flickr25k", "iaprtc12", "nuswide")


def test_every_tool_is_a_script():
    assert sorted(path.stem for path in TOOLS.glob("*.py")) == [f"make_{name}" for name in NAMES]
    for name in NAMES:
        module = importlib.import_module(f"math_hash.data.building.{name}")
        assert load_tool(f"make_{name}").main is module.main


@pytest.mark.slow
def test_a_script_runs_and_ends_with_an_exit_code(tmp_path):
    script = [sys.executable, TOOLS / "make_demo.py"]
    done = subprocess.run([*script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: make_demo.py")
    (tmp_path / "file").write_text("")
    done = subprocess.run([*script, "--output", tmp_path / "file/demo"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("name", NAMES)
def test_arguments_can_be_given_to_main(name, capsys):
    main = importlib.import_module(f"math_hash.data.building.{name}").main
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--output" in capsys.readouterr().out
