"""Opening a trained model, whatever form it was saved in."""

import os
import re
from pathlib import Path

import torch

from math_hash.errors import InputError
from math_hash.files import read_json
from math_hash.models.model import CONFIG, CodeModel, read_saved
from math_hash.models.released import read_released


def load_model(path: str | os.PathLike, device: str | torch.device = "cpu") -> CodeModel:
    """Open a trained model for encoding.

    Args:
        path: a run folder, a folder that `HashModel.save` or `export_onnx` wrote, a released MATH checkpoint (.pth),
            or, where no such path is there, `user/name` on the Hugging Face Hub.
        device: where to put it; ONNX models run where onnxruntime can.

    Raises:
        InputError: nothing is there, or it is damaged or of another kind.
    """
    name, path = os.fspath(path), Path(path)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        from math_hash.models.hub import download

        path = download(name)
    if path.is_dir():
        if (path / CONFIG).is_file() and read_json(path / CONFIG).get("format") == "onnx":
            from math_hash.models.onnx import OnnxModel

            return OnnxModel(path)
        model = read_saved(path)
    elif path.is_file():
        model = read_released(path)
    else:
        raise InputError(f"{path}: no such model; expected a run folder, a saved folder or a released MATH .pth")
    return model.to(device)
