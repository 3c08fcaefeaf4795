"""Training in double precision, recorded step by step, to compare trainings that must be equal.

In single precision, whole trainings that compute the same in another order (several processes, other instruction
sets, compiled blocks) cannot be compared: rounding differences grow from step to step, and some objectives make them
large within a few steps. MESDCH's (C - c) log((eps + C) / (eps + c)), c = relu(cosine), has slopes up to
C / eps = 10^5 where a cosine leaves zero: initial weights that differ by 10^-7 lead to losses that differ by 0.1 to
100 % two tiny epochs later. In double precision the same differences start at 10^-16 and stay below 10^-9 in trainings
of this size.

As a script: `python -m math_hash.testing.double_precision RUNS FOLDER` runs each entry of RUNS, JSON of name -> flags
of main.py, one after the other, without figures and checkpoints, and writes its record to FOLDER/<name>.pt.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from torch import Tensor

from math_hash.cli import main_py
from math_hash.testing.tiny import without_figures
from math_hash.training import state
from math_hash.training.run_folder import Run
from math_hash.training.step import TrainingStep

Step = dict[str, Any]
_float = Tensor.float


def _keeps_double(value: Tensor) -> Tensor:
    """Replaces `Tensor.float`, which rounds."""
    return value if value.dtype == torch.float64 else _float(value).double()


@contextmanager
def recorded_training(double: bool = True) -> Iterator[list[Step]]:
    """Record each training step inside the block, computed in double precision if `double`.

    Yields:
        One record per step: `turn`, the streams that were updated; `terms`, name -> loss; `gradients`, name of the
        parameter -> gradient, in the first step of each turn.
    """
    steps: list[Step] = []
    current: list[TrainingStep] = []

    class Recorded(TrainingStep):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            if double:
                self.double()
                for layer in self.model.modules():
                    if isinstance(layer, torch.nn.Conv2d):  # pictures arrive in single precision
                        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))

        def forward(self, *arguments: Any, **options: Any) -> dict[str, Tensor]:
            with patch.object(Tensor, "float", _keeps_double if double else _float):
                terms = super().forward(*arguments, **options)
            if double:
                assert {term.dtype for term in terms.values()} == {torch.float64}
                assert {bank.dtype for bank in self.bank.codes.values()} == {torch.float64}
            turn = next(value for value in (*arguments, *options.values()) if isinstance(value, tuple))
            current[:] = [self]
            steps.append({"turn": turn, "terms": {name: float(term.detach()) for name, term in terms.items()}})
            return terms

    backward = Accelerator.backward

    def recorded_backward(self: Accelerator, *arguments: Any, **options: Any) -> None:
        backward(self, *arguments, **options)
        if steps[-1]["turn"] not in [step["turn"] for step in steps[:-1]]:
            steps[-1]["gradients"] = {
                name: parameter.grad.to_sparse() if "token_embedding" in name else parameter.grad.clone()
                for name, parameter in current[0].model.named_parameters()
                if parameter.grad is not None
            }

    with patch.object(state, "TrainingStep", Recorded), patch.object(Accelerator, "backward", recorded_backward):
        yield steps


if __name__ == "__main__":
    for name, flags in json.loads(sys.argv[1]).items():
        with (
            recorded_training(double="--single" not in flags) as steps,
            without_figures(),
            patch.object(Run, "save_checkpoint", lambda run, state: None),
        ):
            assert main_py([flag for flag in flags if flag != "--single"]) == 0, name
        if os.environ["RANK"] == "0":
            torch.save(steps, Path(sys.argv[2]) / f"{name}.pt")
    if torch.distributed.is_initialized():  # a process group that is alive at exit may abort the process
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
