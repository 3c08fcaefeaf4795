"""How the benchmarks time a task: the least of several runs, since other work can only make a run slower."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def best(task: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """The least seconds of `repeats` runs, at least one, and the last run's result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = task()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result
