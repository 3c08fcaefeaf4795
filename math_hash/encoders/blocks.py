"""The blocks of CLIP's towers and of the local heads, which keep little for their gradients.

Layer norms, activations and attention itself cost next to nothing compared with the matrix products that follow them,
but their results take half of the memory of a training step. So only their inputs are kept, and they are computed again
in the backward pass (selective recomputation; Korthikanti et al. 2022, "Reducing activation recomputation in large
transformer models", section 4.2); so are the states after attention, at the cost of one more product in 36. Queries,
keys and values are views of one product.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, Transformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from math_hash.errors import InputError, one_line

CPU_ROWS = 32  # rows per chunk


def run_blocks(
    transformer: Transformer, states: Tensor, mask: Tensor | None = None, depths: Collection[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Pass states through a transformer's blocks; the same result as `transformer.forward_intermediates`.

    Args:
        states: (b, length, d).
        mask: added to the attention's logits, float (b or 1, 1, length or 1, length).
        depths: indices of the blocks after which the states are returned.

    Returns:
        The last states, (b, length, d), and those of `depths`.
    """
    run, wanted = _block, {}
    if torch.is_grad_enabled():
        run = getattr(transformer, "compiled_block", _block)
    for depth, block in enumerate(transformer.resblocks):
        if transformer.grad_checkpointing and torch.is_grad_enabled():
            states = checkpoint(run, block, states, mask, use_reentrant=False)
        else:
            with reduced_to(block.attn.in_proj_weight):
                states = run(block, states, mask)
        if depth in depths:
            wanted[depth] = states
    return states, wanted


def compile_blocks(model: nn.Module) -> None:
    """Compile the blocks of all transformers in a model, for training; once for each width and kind of mask.

    Only the block is compiled, not the whole step: blocks of the same width share the compiled code.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    compiled = torch.compile(_block, dynamic=True)

    def run(block: ResidualAttentionBlock, states: Tensor, mask: Tensor | None) -> Tensor:
        try:
            return compiled(block, states, mask)
        except TorchDynamoException as error:
            raise InputError(f"`compile`: cannot compile here ({one_line(error)}); leave it out") from error

    for transformer in model.modules():
        if isinstance(transformer, Transformer):
            transformer.compiled_block = run


def runs_in_chunks(inputs: Tensor) -> bool:
    """Whether a batch runs in chunks: on the CPU, if it has more rows than a chunk.

    On the CPU, small batches are as fast as large ones, their states fit into the caches, and lengths can be read at no
    cost.
    """
    return inputs.device.type == "cpu" and not torch.compiler.is_compiling() and len(inputs) > CPU_ROWS


def chunks_by_length(lengths: Tensor) -> tuple[tuple[Tensor, ...], list[int]]:
    """Group rows of similar length.

    Args:
        lengths: int64 (b,).

    Returns:
        The row numbers of each chunk, int64, the shortest rows first, and the longest length in each chunk.
    """
    rows = lengths.argsort(stable=True).split(CPU_ROWS)
    return rows, [int(lengths[chunk[-1]]) for chunk in rows]


def in_chunks_by_length(function: Callable[..., Tensor], lengths: Tensor, *tensors: Tensor) -> Tensor:
    """`function(*tensors)`, if that saves time in chunks of rows of similar length, without their common padding.

    Args:
        function: takes tensors with the same number of rows and any length; its result has one row for each of theirs.
        lengths: int64 (b,), the length of each row without padding.
        tensors: (b, length, ...), cut to (rows of the chunk, its longest length, ...).

    Returns:
        The results, (b, ...), in the order of the rows.
    """
    if not runs_in_chunks(tensors[0]):
        return function(*tensors)
    rows, longest = chunks_by_length(lengths)
    results = [function(*(value[r, :n] for value in tensors)) for r, n in zip(rows, longest, strict=True)]
    return torch.cat(results)[torch.cat(rows).argsort()]


def is_ordinary(transformer: nn.Module) -> bool:
    """Whether `run_blocks` can run its blocks."""
    return isinstance(transformer, Transformer) and all(
        type(block) is ResidualAttentionBlock
        and isinstance(block.attn, nn.MultiheadAttention)
        and block.attn.batch_first
        for block in transformer.resblocks
    )


def padding_mask(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask for `run_blocks`, (b, 1, 1, length), from bool (b, length), True where attention is not allowed."""
    mask = torch.zeros(padding.shape, dtype=dtype, device=padding.device).masked_fill(padding, float("-inf"))
    return mask[:, None, None]


def reduced_to(weight: Tensor) -> AbstractContextManager[Any]:
    """Inside the block, products are computed in the type of a half-precision weight; for others, nothing changes."""
    if weight.dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    return torch.autocast(weight.device.type, weight.dtype)


def _block(block: ResidualAttentionBlock, states: Tensor, mask: Tensor | None) -> Tensor:
    batch, length, width = states.shape
    attention, project, (expand, activation, contract) = block.attn, block.attn.out_proj, block.mlp
    # QuickGELU is x sigmoid(1.702 x) = silu(1.702 x) / 1.702: its factors are applied where states are narrow
    factor, activate = (1.702, F.silu) if isinstance(activation, QuickGELU) else (1.0, activation)

    def attend(states: Tensor, joined: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = joined.view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = _attention(query, key, value, None if mask is None else mask.to(joined.dtype))
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        states = states + block.ls_1(project(mixed))
        return block.ln_2(states).mul_(factor), states

    joined = linear_of(block.ln_1, states, attention.in_proj_weight, attention.in_proj_bias)
    used = (*project.parameters(), *block.ls_1.parameters(), *block.ln_2.parameters())
    hidden, states = _LinearOf.run(attend, (states, joined), used, expand.weight, expand.bias * factor)
    (out,) = _LinearOf.run(lambda hidden: (activate(hidden),), (hidden,), (), contract.weight, contract.bias * factor)
    return torch.add(states, block.ls_2(out), alpha=1 / factor)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, (b, heads, length, d), by PyTorch's fused attention.

    On the CPU, it is slow in bf16, and so are its gradients, for which it is computed once more, in float32 where
    sequences are short: there the formula takes down to a fifth of their time.
    """
    in_bf16 = query.dtype == torch.bfloat16
    slow = query.shape[-2] <= (256 if in_bf16 else 64) and (in_bf16 or torch.is_grad_enabled())
    if slow and query.device.type == "cpu" and not torch.compiler.is_compiling():
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return (logits if mask is None else logits + mask).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def linear_of(norm: nn.Module, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear(norm(value))`; only `value` is kept for gradients."""
    return _LinearOf.run(lambda value: (norm(value),), (value,), tuple(norm.parameters()), weight, bias)[0]


class _LinearOf(torch.autograd.Function):
    """`first, *others = function(*values)`, then (linear(first), *others); only the values are kept for gradients."""

    @classmethod
    def run(
        cls,
        function: Callable[..., tuple[Tensor, ...]],
        values: tuple[Tensor, ...],
        parameters: tuple[Tensor, ...],
        weight: Tensor,
        bias: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Apply it; `parameters` are those that the function uses."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # the compiler decides itself what to keep
            first, *others = function(*values)
            return F.linear(first, weight, bias), *others
        return cls.apply(function, len(values), weight, bias, *values, *parameters)

    @staticmethod
    def forward(context, function, count, weight, bias, *used):
        context.function, context.count = function, count
        context.save_for_backward(weight, *used)
        device = weight.device.type
        context.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        first, *others = function(*used[:count])
        return F.linear(first, weight, bias), *others

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient, *of_others):
        weight, *used = context.saved_tensors
        count = context.count
        _, _, needs_weight, needs_bias, *needs = context.needs_input_grad
        values = [value.detach().requires_grad_(needed) for value, needed in zip(used[:count], needs, strict=False)]
        device, dtype, enabled = context.autocast
        with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
            first, *others = context.function(*values)
        rows = gradient.flatten(0, -2)
        of_weight = of_bias = None
        if needs_weight:
            of_weight = (rows.T @ first.detach().flatten(0, -2).to(rows.dtype)).to(weight.dtype)
        if needs_bias:
            of_bias = rows.sum(dim=0).to(weight.dtype)
        computed = []
        if first.requires_grad:
            of_first = (rows @ weight.to(rows.dtype)).view(first.shape).to(first.dtype)
            wanted = [one for one, needed in zip([*values, *used[count:]], needs, strict=True) if needed]
            given = zip((first, *others), (of_first, *of_others), strict=True)
            outputs, gradients = zip(*((one, its) for one, its in given if one.requires_grad), strict=True)
            computed = list(torch.autograd.grad(outputs, wanted, gradients))
        return None, None, of_weight, of_bias, *(computed.pop(0) if needed else None for needed in needs)
