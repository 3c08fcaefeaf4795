"""Devices, processes and random numbers of a run."""

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, parse_flag_from_env

from math_hash.config import Config
from math_hash.errors import InputError
from math_hash.models.precision import choose_precision


def make_accelerator(config: Config) -> Accelerator:
    """The devices and the processes of this run, and the precision of its training.

    Raises:
        InputError: this machine cannot compute in that precision.
    """
    # every process writes the same codes to its bank; streams that are not in this turn have no gradients
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    if not config.is_train:
        return Accelerator(kwargs_handlers=[ddp])
    try:
        # this state is made once; without `cpu`, as Accelerator has it, processes on a CPU would not find each other
        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        precision = choose_precision(config.precision, state.device)
        return Accelerator(mixed_precision=precision, kwargs_handlers=[ddp])
    except (ValueError, RuntimeError) as error:
        raise InputError(f"`precision` {config.precision}: {error}; use `precision` no or bf16") from error


def seed_everything(*numbers: int) -> None:
    """Seed PyTorch with a function of these numbers."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def same_on_all_processes(name: str) -> str:
    """The main process's choice, on all processes, once all of them have come here.

    So a name that each process has checked, such as that of a free folder, is not taken before the last one has.
    """
    PartialState().wait_for_everyone()
    return broadcast_object_list([name])[0]
