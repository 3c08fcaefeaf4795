"""The precision in which a model encodes."""

from collections.abc import Mapping
from typing import Any

import torch

from math_hash.config import PRECISIONS
from math_hash.errors import InputError

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device | str) -> str:
    """What `name` means on a device: "no" (float32), "bf16" or "fp16".

    "auto" is bf16 where the device multiplies it faster than float32: a processor with AVX512-BF16 or AMX-BF16, or a
    GPU with bf16; elsewhere it is "no".

    Raises:
        InputError: the name is unknown, or it is fp16 and the device is a processor.
    """
    kind = torch.device(device).type
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} is unknown; choose from {', '.join(PRECISIONS)}")
    if name == "fp16" and kind == "cpu":
        raise InputError("`precision` fp16: needs a GPU; use `precision` auto, bf16 or no")
    return ("bf16" if _multiplies_bf16(kind) else "no") if name == "auto" else name


def bf16_instructions() -> list[str]:
    """The instruction sets of this processor that multiply bf16, "AVX512-BF16" and "AMX-BF16"; empty if it has none."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not tell
    return [name for name in ("AVX512-BF16", "AMX-BF16") if known.get(name.lower().replace("-", "_"))]


def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and bool(bf16_instructions())
