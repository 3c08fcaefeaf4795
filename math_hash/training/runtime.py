"""Devices, processes and random numbers of a run."""

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list

from math_hash.config import Config
from math_hash.errors import InputError
from math_hash.models.device import use_device
from math_hash.models.precision import choose_precision


def make_accelerator(config: Config) -> Accelerator:
    """The devices and the processes of this run, and the precision of its training.

    Raises:
        InputError: this machine cannot compute on that device, or in that precision.
    """
    # every process writes the same codes to its bank; streams that are not in this turn have no gradients
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    device = use_device(config.device)
    if not config.is_train:
        return Accelerator(kwargs_handlers=[ddp])
    try:
        precision = choose_precision(config.precision, device)
        return Accelerator(mixed_precision=precision, kwargs_handlers=[ddp])
    except (ValueError, RuntimeError) as error:
        raise InputError(f"`precision` {config.precision}: {error}; use `precision` no or bf16") from error


def seed_everything(*numbers: int) -> None:
    """Seed PyTorch with a function of these numbers."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def same_on_all_processes(name: str) -> str:
    """The main process's choice, on all processes, once all of them have come here."""
    PartialState().wait_for_everyone()
    return broadcast_object_list([name])[0]
