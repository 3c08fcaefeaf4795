"""BertAdam, the optimizer of the releases, with multi-tensor operations."""

from collections.abc import Callable, Iterable
from math import cos, pi
from typing import Any, overload

import torch
from torch.optim import Optimizer


def warmup_cosine(progress: float, warmup: float) -> float:
    """Factor of the learning rate: x / warmup while the progress x is below it, then (1 + cos(pi x)) / 2."""
    return progress / warmup if progress < warmup else 0.5 * (1 + cos(pi * progress))


class BertAdam(Optimizer):
    """Adam without bias correction, with decoupled weight decay and each parameter's gradient clipped by its norm.

    A step with gradient g, after clipping its norm to `max_norm`:
    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p = p - rate (m / (sqrt(v) + eps) + weight_decay p),
    rate = lr * warmup_cosine(step / total_steps). The first step has step = 0, hence rate 0 with a warmup.

    Args:
        params: parameters, or groups with their own `lr`.
        lr: learning rate before the schedule.
        total_steps: number of steps of the whole training.
        warmup: fraction of the steps during which the rate rises.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        total_steps: int,
        *,
        warmup: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_norm: float = 1.0,
    ):
        defaults = {
            "lr": lr,
            "total_steps": total_steps,
            "warmup": warmup,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "max_norm": max_norm,
            "step": 0,
        }
        super().__init__(params, defaults)

    @staticmethod
    def rate(group: dict[str, Any]) -> float:
        """The learning rate of a group's next step."""
        return group["lr"] * warmup_cosine(group["step"] / group["total_steps"], group["warmup"])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient. Gradients are scaled in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate = self.rate(group)
            group["step"] += 1
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            means, squares = ([self.state[p][name] for p in params] for name in ("mean", "square"))

            factors = torch._foreach_norm(gradients)
            torch._foreach_add_(factors, 1e-6)
            torch._foreach_reciprocal_(factors)
            torch._foreach_mul_(factors, group["max_norm"])
            torch._foreach_clamp_max_(factors, 1.0)
            torch._foreach_mul_(gradients, factors)

            b1, b2 = group["betas"]
            torch._foreach_lerp_(means, gradients, 1 - b1)
            torch._foreach_mul_(squares, b2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - b2)
            scale = torch._foreach_sqrt(squares)
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
            torch._foreach_addcdiv_(params, means, scale, -rate)
        return loss
