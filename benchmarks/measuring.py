"""Time, memory and the rate of matrix products, on the GPU where there is one and on the CPU otherwise."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import timing
import torch

from math_hash.models.precision import bf16_instructions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best(task: Callable[[], object], repeats: int) -> float:
    """The least seconds of `repeats` runs, until the GPU has finished."""

    def finished() -> None:
        task()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return timing.best(finished, repeats)[0]


def matrix_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP per second of this machine's matrix product."""
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / best(lambda: a @ b, 8)


def bf16_support() -> str:
    """What multiplies bf16 here, such as "AVX512-BF16 (brg_matmul:avx512_core_bf16)", and its rate beside fp32's."""
    if DEVICE.type == "cuda":
        name = torch.cuda.get_device_name(DEVICE)
    else:
        name = f"{' and '.join(bf16_instructions()) or 'no instructions for bf16'} ({_bf16_kernel()})"
    bf16, fp32 = (matrix_rate(dtype) / 1e9 for dtype in (torch.bfloat16, torch.float32))
    return f"{name}; matrix products at {bf16:.0f} GFLOP/s, in fp32 at {fp32:.0f}"


def _bf16_kernel() -> str:
    """oneDNN's name of the kernel that runs a product in bf16; a system may refuse a processor's matrix unit."""
    product = "import torch; a = torch.ones(512, 512).bfloat16(); a @ a"
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    ran = subprocess.run([sys.executable, "-c", product], env=environment, capture_output=True, text=True, check=True)
    kernels = [line.split(",")[6] for line in ran.stdout.splitlines() if ",exec,cpu,matmul," in line]
    return kernels[0] if kernels else "not by oneDNN"


def reset_peak_memory() -> None:
    """Return free memory to the system, and measure this process's peak from here on (Linux)."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """The largest memory of this process, or of its tensors on the GPU, in GB."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM"))


class LiveMemory:
    """The most memory allocated at one time while the block runs, in GB; gaps of the heap do not count (glibc)."""

    def __enter__(self) -> "LiveMemory":
        self.most, self.ended = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        kind = type("mallinfo2", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in names]})
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = kind
        while not self.ended.wait(0.02):
            heap = mallinfo2()
            self.most = max(self.most, (heap.uordblks + heap.hblkhd) / 1e9)

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
