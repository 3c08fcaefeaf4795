"""Recomputing intermediate results for the gradient instead of keeping them."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a function that makes large matrices, such as (n, b), several of which would be kept for its gradient.

    Its values and gradients stay the same. It must be deterministic.
    """

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return function(*arguments, **options)
        call = partial(function, **options)
        return checkpoint(call, *arguments, use_reentrant=False, preserve_rng_state=False)

    return run
