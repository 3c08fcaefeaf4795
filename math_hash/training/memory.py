"""Memory of a training run: reusing freed blocks, and a clear message when there is too little."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from math_hash.config import Config
from math_hash.errors import InputError

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt(3)


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks instead of returning them to the system after each operation.

    PyTorch frees and allocates its CPU tensors in every step; fresh pages have to be cleared and, on virtual machines
    that return free pages to their host, requested from it again. Does nothing if the library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20)):
        mallopt(option, value)


@contextmanager
def memory_errors(config: Config) -> Iterator[None]:
    """Turn an out-of-memory error into one line that says what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        text = str(error)
        if not isinstance(error, MemoryError) and "out of memory" not in text and "can't allocate memory" not in text:
            raise
        remedies = [f"`batch_size` below {config.batch_size} with `gradient_accumulation` to make up for it"]
        if config.precision == "no":
            remedies.append("`precision` bf16")
        if not config.freeze_encoder and not config.features:
            if not config.gradient_checkpointing:
                remedies.append("`gradient_checkpointing`")
            remedies.append("`freeze_encoder`")
        raise InputError(f"out of memory at `batch_size` {config.batch_size}; try {', or '.join(remedies)}") from error
