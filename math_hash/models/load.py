"""Opening a trained model, in any format."""

import os
import re
from pathlib import Path

import torch

from math_hash.encoders import build_encoder
from math_hash.encoders.state_dict import read_state_dict
from math_hash.errors import InputError, one_line
from math_hash.files import read_json
from math_hash.models.code_model import CONFIG, RESULTS, WEIGHTS, CodeModel
from math_hash.models.model import HashModel, ModelConfig
from math_hash.models.precision import HALVES, choose_precision
from math_hash.models.released import read_released
from math_hash.models.training_distribution import read_distributions


def load_model(path: str | os.PathLike, device: str | torch.device = "cpu", precision: str = "no") -> CodeModel:
    """Open a trained model for encoding.

    Args:
        path: a run folder, a folder that `HashModel.save` or `export_onnx` wrote, a released MATH checkpoint (.pth),
            or, if no such path exists, `user/name` on the Hugging Face Hub.
        device: where to put it; ONNX models run where onnxruntime can.
        precision: in which it encodes: "no" (float32), "bf16", "fp16", or "auto", see `choose_precision`; ONNX models
            have one of their own.

    Raises:
        InputError: there is no such model, it is damaged or of another kind, its method is not installed, or it cannot
            encode in that precision on this device.
    """
    name, path, trusted = os.fspath(path), Path(path), True
    chosen = choose_precision(precision, device)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        from math_hash.models.hub import download

        path, trusted = download(name), False
    if path.is_dir():
        if (path / CONFIG).is_file() and read_json(path / CONFIG).get("format") == "onnx":
            from math_hash.models.onnx import OnnxModel

            if precision in HALVES:
                raise InputError(
                    f"`precision` {precision}: {path} is an ONNX model, whose precision is fixed; use auto"
                )
            return OnnxModel(path)
        model = read_saved(path, trusted=trusted)
    elif path.is_file():
        model = read_released(path)
    else:
        raise InputError(f"{path}: no such model; expected a run folder, a saved folder or a released MATH .pth")
    return model.in_precision(chosen).to(device)


def read_saved(folder: str | Path, *, trusted: bool = True) -> HashModel:
    """Read what `HashModel.save` wrote, on the CPU, in evaluation mode.

    Args:
        trusted: False for a folder that comes from a hub; see `find_method`.

    Raises:
        InputError: a file is missing or damaged, the method is not installed, or the weights do not fit.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: has no {CONFIG}; expected a run folder, a saved folder or a released .pth")
    content = read_json(folder / CONFIG)
    try:
        config = ModelConfig(**content)
        encoder = build_encoder(config.encoder)
        model = HashModel(
            encoder, config.method, config.k_bits, config.method_options, config.max_words, trusted=trusted
        )
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    except Exception as error:  # building towers of damaged options raises many kinds
        raise InputError(
            f"{folder / CONFIG}: damaged or of another version ({error}); train or save it again"
        ) from error
    try:
        model.load_state_dict({"bit_order": model.bit_order, **read_state_dict(folder / WEIGHTS)})
    except (InputError, RuntimeError) as error:
        raise InputError(f"{folder / WEIGHTS}: missing, damaged or of another model ({one_line(error)})") from error
    if (folder / RESULTS).is_file():
        model.results = read_json(folder / RESULTS)
    model.distributions = read_distributions(folder)
    return model.eval()
