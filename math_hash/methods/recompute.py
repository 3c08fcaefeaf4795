"""Intermediate results that are computed once more for the gradient rather than kept."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a function that makes large matrices, such as (n, b), of which its gradient would keep several.

    Its values and gradients are the same; it must draw nothing at random.
    """

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return function(*arguments, **options)
        call = partial(function, **options)
        return checkpoint(call, *arguments, use_reentrant=False, preserve_rng_state=False)

    return run
