"""`--batch-size auto`: the largest batch that this machine's memory holds."""

from dataclasses import replace
from functools import cache

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import nn

from math_hash.config import Config
from math_hash.data import Pairs, load_batches
from math_hash.methods import TrainingSet
from math_hash.methods.objectives import total
from math_hash.training.code_bank import CodeBank
from math_hash.training.feature_cache import with_cache
from math_hash.training.memory import memory_errors
from math_hash.training.setup import Data, open_model
from math_hash.training.state import turns_of
from math_hash.training.step import TrainingStep

STEPS = 10  # an epoch has at least this many


def largest_batch_size(config: Config, accelerator: Accelerator, data: Data) -> int:
    """The largest batch size, over all processes together, whose steps fit into the memory that is free now.

    The memory per row and the fixed memory per step are measured on steps of 8 and of 16 rows, then on one with half of
    the batch size that these suggest. The batch size is a multiple of the number of processes, at most a tenth of the
    training rows, and at least one row per process.

    Raises:
        InputError: something is wrong with the data or the weights, or even the smallest step fails.
    """
    device, processes = accelerator.device, accelerator.num_processes
    model = open_model(config, data)
    data = with_cache(config, model, data, accelerator)
    most = max(1, len(data.split.train) // (STEPS * processes))
    free = _free(device, processes)
    labels = torch.from_numpy(data.folder.labels[data.split.train])
    step = TrainingStep(model, CodeBank(model.head.banks, labels, config.seed)).to(device)
    vectors = torch.randn(len(labels), model.encoder.width, device=device)
    model.head.prepare(TrainingSet(vectors, vectors, labels.to(device)))
    model.head.on_epoch(1, config.epochs, step.bank.codes)

    turns = turns_of(model, config)
    pairs = data.pairs(model)  # made once, since it tokenizes all texts

    @cache
    def needed(rows: int) -> int:
        chosen = np.resize(data.split.train, rows)
        with memory_errors(replace(config, batch_size=rows)):
            return max(_needed(step, pairs, chosen, turn, accelerator, config.memory_overhead) for turn in turns)

    def largest(small: int, large: int) -> tuple[int, float]:
        few, more = needed(small), needed(large)
        each = max(1, (more - few) / (large - small))
        room = config.memory_share * free - _fixed(model) - max(0, few - small * each)
        rows = min(max(1, int(room / each)), most)
        return int(accelerator.gather(torch.tensor([rows], device=device)).min()), each

    rows, each = largest(8, 16)
    if rows > 4 * 16:  # the longest of many texts is longer than the longest of 16
        rows, each = largest(16, rows // 2)
    if accelerator.is_main_process:
        print(f"batch size   {rows * processes} ({free / 1e9:.1f} GB free per process, {each / 1e6:.1f} MB per row)")
    return rows * processes


def _free(device: torch.device, processes: int) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available // processes


def _fixed(model: nn.Module) -> int:
    """Bytes of the weights and, for trained ones, of their gradients and the optimizer's two moments."""
    return sum(p.nbytes * (4 if p.requires_grad else 1) for p in model.parameters())


def _needed(
    step: TrainingStep, pairs: Pairs, rows: np.ndarray, turn: tuple[str, ...], accelerator: Accelerator, overhead: float
) -> int:
    """Bytes that a step on these rows needs besides the weights."""
    device = accelerator.device
    inputs = next(load_batches(pairs.for_training(turn), [rows], 0, device))
    positions = torch.arange(len(rows), device=device) % len(step.bank.labels)
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), accelerator.autocast():
        loss = total(step(inputs, positions, turn).values())
    if device.type == "cuda":
        loss.backward()
        step.zero_grad()
        return torch.cuda.max_memory_allocated(device) - before
    weights = {p.untyped_storage().data_ptr() for p in step.parameters()}
    return int(overhead * sum(size for place, size in kept.items() if place not in weights))
