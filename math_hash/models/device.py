"""The device that a command computes on."""

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import parse_flag_from_env

from math_hash.errors import InputError, one_line


def choose_device(name: str) -> torch.device:
    """The device of a name such as cpu, cuda, cuda:1 or mps; "auto": a GPU where there is one.

    Raises:
        InputError: there is no such device here.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return PartialState().default_device
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"`device` {name}: cannot be used here ({one_line(error)}); cpu can") from error
    return device


def use_device(name: str) -> torch.device:
    """Let accelerate compute on a device; to be called before an `Accelerator` is made.

    Args:
        name: of the device, as for `choose_device`.

    Raises:
        InputError: there is no such device here, or a launcher started several processes, each with its own device.
    """
    # this state is made once; without `cpu`, as Accelerator has it, processes on a CPU would not find each other
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=on_cpu)
    if state.num_processes > 1:
        if name not in ("auto", state.device.type):
            raise InputError(
                f"`device` {name}: each process has the launcher's; use `accelerate launch --cpu, --gpu_ids`"
            )
        return state.device
    device = torch.device("cpu") if on_cpu and name == "auto" else choose_device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    for shared in (state, AcceleratorState()) if is_initialized() else (state,):
        shared.device = device
    return device
