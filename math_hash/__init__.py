"""math_hash: deep cross-modal hashing on CLIP.

In short:

    import math_hash

    run = math_hash.train(dataset="demo", k_bits=16)
    model = math_hash.load_model(run.path)
    codes = model.encode_text(["two dogs on a beach"])
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from math_hash.errors import InputError

if TYPE_CHECKING:
    from math_hash.models.load import load_model
    from math_hash.training.api import evaluate, train

try:
    __version__ = version("math_hash")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = ["InputError", "evaluate", "load_model", "train"]


def __getattr__(name: str) -> Any:
    # PyTorch and open_clip take seconds to import; whoever wants the metrics alone does not wait for them
    if name == "load_model":
        from math_hash.models.load import load_model

        return load_model
    if name in ("train", "evaluate"):
        from math_hash.training import api

        return getattr(api, name)
    raise AttributeError(f"module 'math_hash' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
