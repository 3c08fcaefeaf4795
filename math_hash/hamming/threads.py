"""Compiled kernels on several threads.

The kernels hold no lock of Python, so its own threads run parts of the work side by side. numba's threading layers are
not used: OpenMP's hangs in a process that was forked after its first use, the work queue's ends a process that enters
it from two threads, and both take their number of threads for the whole process. The threads here live no longer than
the call.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


def most_threads() -> int:
    """Threads that a kernel may use: `NUMBA_NUM_THREADS` or `OMP_NUM_THREADS`, else the processors of this process."""
    for value in map(os.environ.get, _VARIABLES):
        if value and value.isdigit():
            return max(1, int(value))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(kernel: Callable[[slice], object], count: int, threads: int | None = None) -> None:
    """Call a kernel for slices that cover `range(count)`, each on a thread of its own.

    Args:
        kernel: called with a slice; it writes its part of the result.
        count: of queries, or of whatever the kernel divides.
        threads: at most so many; by default `most_threads()`.

    Raises:
        Whatever the kernel raises.

    Example:
        >>> squares = [0] * 5
        >>> def square(part):
        ...     for number in range(part.start, part.stop):
        ...         squares[number] = number**2
        >>> in_parts(square, 5, threads=2)
        >>> squares
        [0, 1, 4, 9, 16]
    """
    parts = min(count, threads or most_threads())
    slices = [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]
    if parts <= 1:
        for part in slices:
            kernel(part)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(kernel, slices))
