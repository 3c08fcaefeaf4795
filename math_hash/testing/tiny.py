"""A tiny CLIP and a tiny dataset, with which a whole training takes seconds."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from math_hash.data import write_dataset
from math_hash.training import api, report

# OpenAI's layout at toy size: 2 x 2 patches, two blocks per tower
TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def tiny_clip(seed: int = 0) -> open_clip.CLIP:
    """open_clip's own model with random weights, larger than its initial ones so that small errors show."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def write_tiny_clip(path: Path) -> Path:
    """Write the tiny CLIP's weights in OpenAI's names, as safetensors. Returns the path."""
    save_file({name: value.contiguous() for name, value in tiny_clip().state_dict().items()}, path)
    return path


def make_tiny_dataset(folder: Path, rows: int = 60) -> Path:
    """Write a dataset of colored pictures, labeled with their bright channels. Returns its folder."""
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


def _nothing(*_: Any) -> None:
    pass


@contextmanager
def without_figures() -> Iterator[None]:
    """Trainings inside the block draw no figures: at toy size, these take a third of the time."""
    with patch.object(api, "plot_history", _nothing), patch.object(report, "draw_contact_sheet", _nothing):
        yield


def launcher(processes: int) -> list[str]:
    """The command that starts a script in several CPU processes (gloo); `accelerate launch --cpu` starts only one."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


ON_CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
