"""What many tests share: a tiny CLIP in OpenAI's format, a tiny dataset, and the real data where it lies."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import math_hash
from math_hash.data import write_dataset

pytest_plugins = ["retrieval.server.fixtures"]

SHARED = Path(os.environ.get("MATH_HASH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]

# OpenAI's layout at toy size: 2 x 2 patches, two blocks a tower
TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def tiny_clip(seed: int = 0) -> open_clip.CLIP:
    """open_clip's own model with random weights, larger than its initial ones so that details show."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory) -> Path:
    """A tiny CLIP's weights in OpenAI's names."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in tiny_clip().state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """60 coloured pictures; the labels are which channels are bright."""
    return make_tiny_dataset(tmp_path_factory.mktemp("dataset") / "tiny", rows=60)


def make_tiny_dataset(folder: Path, rows: int) -> Path:
    rng = np.random.default_rng(7)
    names = ["red", "green", "blue"]
    labels = np.zeros((rows, 3), np.uint8)
    labels[np.arange(rows), rng.integers(0, 3, rows)] = 1
    labels |= rng.random((rows, 3)) < 0.2

    def add_pictures(building: Path) -> None:
        for row, label in enumerate(labels):
            pixels = rng.integers(0, 60, (40, 36, 3)) + 180 * label
            Image.fromarray(pixels.astype(np.uint8)).save(building / f"{row}.png")

    captions = [" and ".join(np.array(names)[label > 0]) if row % 7 else "" for row, label in enumerate(labels)]
    write_dataset(
        folder,
        images=[f"{row}.png" for row in range(rows)],
        captions=captions,
        labels=labels,
        label_names=names,
        protocol="own",
        add_files=add_pictures,
    )
    return folder


def launcher(processes: int) -> list[str]:
    """What starts a script in so many CPU processes (gloo); `accelerate launch --cpu` would start a single one."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


ON_CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tiny_flags(tiny_dataset, clip_file, tmp_path) -> list[str]:
    """Command-line options of a run that takes seconds."""
    return [
        "--dataset-root", str(tiny_dataset.parent), "--dataset", "tiny", "--clip-path", str(clip_file),
        "--resolution", "32", "--max-words", "12", "--query-num", "10", "--train-num", "40", "--val-num", "9",
        "--batch-size", "8", "--epochs", "2", "--lr", "0.001", "--clip-lr", "0.0001", "--num-workers", "0",
        "--transformer-layers", "1", "--k-bits", "12", "--save-dir", str(tmp_path / "run"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip


def shared(name: str) -> Path:
    """A folder of the real data; skips the test, saying so, where it is absent."""
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
