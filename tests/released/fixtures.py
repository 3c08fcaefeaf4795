"""What the released code of the methods computed: inputs, options, terms, weights and gradients of small cases."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from conftest import SHARED
from torch import Tensor

FOLDER = Path(os.environ.get("MATH_HASH_RELEASED_OBJECTIVES") or SHARED / "released-objectives")
WIDTH = 64


@dataclass
class Case:
    """One case of a method's file. `x` has every input; those with a recorded gradient require one."""

    x: dict[str, Tensor]
    option: dict
    term: dict[str, float]
    weight: dict[str, float]
    grad: dict[str, Tensor]
    extra: dict[str, Tensor]
    after: dict[str, Tensor]
    total: float

    @property
    def rows(self) -> Tensor:
        """Positions of the batch's rows."""
        return self.x["rows"].long()

    @property
    def k(self) -> int:
        """Bits of the inputs named image or codes."""
        return next(self.x[name].shape[-1] for name in ("image", "codes") if name in self.x)


@cache
def arrays(file: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def case_names(method: str) -> list[str]:
    return list(dict.fromkeys(name.split("/")[0] for name in arrays(f"{method}.npz")))


def read_case(method: str, case: str) -> Case:
    kinds: dict[str, dict] = {kind: {} for kind in ("input", "option", "term", "weight", "grad", "extra", "after")}
    total = 0.0
    for name, value in arrays(f"{method}.npz").items():
        if name == f"{case}/total":
            total = float(value)
        elif name.startswith(f"{case}/"):
            _, kind, key = name.split("/", 2)
            scalar = value.ndim == 0
            kinds[kind][key] = value.item() if scalar else torch.from_numpy(value.copy())
    inputs = kinds.pop("input")
    for name in kinds["grad"]:
        inputs[name].requires_grad_()
    return Case(inputs, total=total, **kinds)


def head_arrays(method: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict]:
    """State, inputs, outputs and options of a head."""
    kinds: dict[str, dict] = {kind: {} for kind in ("state", "input", "output", "option")}
    for name, value in arrays(f"{method}.head.npz").items():
        kind, key = name.split("/", 1)
        kinds[kind][key] = value.item() if kind == "option" and value.ndim == 0 else torch.from_numpy(value.copy())
    return tuple(kinds.values())
