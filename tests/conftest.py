"""Shared fixtures: a tiny CLIP in OpenAI's format, a tiny dataset, and the real data if it is present."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import math_hash
from math_hash.retrieval import shards
from math_hash.testing.tiny import ON_CPU, TINY, launcher, make_tiny_dataset, tiny_clip, write_tiny_clip

__all__ = ["ON_CPU", "TINY", "launcher", "make_tiny_dataset", "tiny_clip", "write_tiny_clip"]

pytest_plugins = ["retrieval.server.fixtures", "retrieval.server.browser"]

SHARED = Path(os.environ.get("MATH_HASH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]


@pytest.fixture(scope="session", autouse=True)
def float32_on_every_machine():
    """`--precision auto` is float32 in tests, whatever the machine can do."""
    without = {**getattr(torch.cpu, "get_capabilities", dict)(), "avx512_bf16": False, "amx_bf16": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: without, raising=False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
        yield


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory) -> Path:
    """A tiny CLIP's weights in OpenAI's names."""
    return write_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """60 colored pictures, labeled with their bright channels."""
    return make_tiny_dataset(tmp_path_factory.mktemp("dataset") / "tiny", rows=60)


@pytest.fixture
def tiny_flags(tiny_dataset, clip_file, tmp_path) -> list[str]:
    """Command-line options of a run that takes seconds."""
    return [
        "--dataset-root", str(tiny_dataset.parent), "--dataset", "tiny", "--clip-path", str(clip_file),
        "--resolution", "32", "--max-words", "12", "--query-num", "10", "--train-num", "40", "--val-num", "9",
        "--batch-size", "8", "--epochs", "2", "--lr", "0.001", "--clip-lr", "0.0001", "--num-workers", "0",
        "--k-bits", "12", "--save-dir", str(tmp_path / "run"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip


def shared(name: str) -> Path:
    """A folder of the real data; skips the test, with a message, if it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data is not here: {path} (MATH_HASH_DATA names another folder)")
    return path


@pytest.fixture(scope="session")
def trained_run(tiny_dataset, clip_file, tmp_path_factory) -> Path:
    """The folder of a run that trained MATH on the tiny dataset for one epoch, 16 bits."""
    from math_hash.cli import main_py

    folder = tmp_path_factory.mktemp("model") / "run"
    arguments = [
        "--is-train", "--dataset", "tiny", "--dataset-root", tiny_dataset.parent, "--clip-path", clip_file,
        "--query-num", 10, "--train-num", 30, "--val-num", 5, "--epochs", 1, "--batch-size", 10, "--resolution", 32,
        "--max-words", 12, "--num-workers", 0, "--k-bits", 16, "--save-dir", folder,
    ]  # fmt: skip
    assert main_py([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def model(trained_run):
    """The model of `trained_run`."""
    return math_hash.load_model(trained_run)


TOOLS = Path(__file__).resolve().parents[1] / "tools" / "make_datasets"


@pytest.fixture
def shards_written(monkeypatch):
    """How many parts `math-hash encode` has written, `.count`; with the part number `.stop_at`, it is interrupted."""
    state, write = SimpleNamespace(count=0, stop_at=0), shards.Shard.write

    def counted(*arguments):
        write(*arguments)
        state.count += 1
        if state.count == state.stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(shards.Shard, "write", counted)
    return state


def load_tool(name):
    specification = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a tool as a command: its exit code and what it printed."""

    def call(tool, *arguments):
        monkeypatch.setattr(sys, "argv", [tool.__name__, *map(str, arguments)])
        code = tool.main()
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call
