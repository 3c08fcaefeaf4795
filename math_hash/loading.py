"""Opening a trained model, whatever form it was saved in."""

from pathlib import Path

import torch

from math_hash.errors import InputError
from math_hash.model import HashModel, read_saved
from math_hash.released import read_released


def load_model(path: str | Path, device: str | torch.device = "cpu") -> HashModel:
    """Open a trained model for encoding.

    Args:
        path: a run folder, a folder that `HashModel.save` wrote, or a released MATH checkpoint (.pth).
        device: where to put it.

    Raises:
        InputError: nothing is there, or it is damaged or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        model = read_saved(path)
    elif path.is_file():
        model = read_released(path)
    else:
        raise InputError(f"{path}: no such model; expected a run folder, a saved folder or a released MATH .pth")
    return model.to(device)
