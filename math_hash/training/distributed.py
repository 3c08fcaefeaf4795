"""Splitting the rows of a batch among processes and gathering the results, with gradients.

The batch size is that of all processes together. Every process takes an equal, consecutive share of a batch; if the
rows do not divide evenly, the batch is padded with its own first rows, which are cut off again after gathering. So the
gathered rows are exactly those of a run in one process, in the same order.
"""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


def share_of(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
    """This process's part of a batch's rows, ceil(b / processes) of them."""
    each = -(-len(rows) // processes)
    return np.resize(rows, each * processes)[process * each : (process + 1) * each]


def gather_rows(value: Tensor, rows: int) -> Tensor:
    """Gather the processes' shares (b_local, ...) of a tensor into the whole batch (rows, ...), with gradients.

    With one process, this is the tensor itself.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value[:rows]
    return _GatherRows.apply(value)[:rows]


def gather_tree(value: Any, rows: int) -> Any:
    """Apply `gather_rows` to each tensor in dictionaries, lists and (named) tuples; half precision becomes float32."""
    if isinstance(value, Tensor):
        half = value.is_floating_point() and value.dtype.itemsize < 4
        return gather_rows(value.float() if half else value, rows)
    if isinstance(value, dict):
        return {name: gather_tree(item, rows) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(gather_tree(item, rows) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(gather_tree(item, rows) for item in value)
    return value


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context, value: Tensor) -> Tensor:
        shares = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, value.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        # every process computes the loss of the whole batch: its gradients with respect to a share add up, and the
        # average that DistributedDataParallel takes over processes brings the sum back to the loss's own gradient
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
