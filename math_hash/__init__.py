"""math_hash: deep cross-modal hashing on CLIP.

In short:

    import math_hash

    run = math_hash.train(dataset="demo", k_bits=16)
    model = math_hash.load_model(run.path)
    codes = model.encode_text(["two dogs on a beach"])
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from math_hash.errors import InputError

if TYPE_CHECKING:
    from math_hash import evaluation, retrieval
    from math_hash.models.load import load_model
    from math_hash.retrieval.encode import encode_collection
    from math_hash.retrieval.opening import open_index
    from math_hash.training.api import evaluate, train
    from math_hash.training.compare import compare
    from math_hash.training.run_folder import Run

try:
    __version__ = version("math_hash")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = [
    "InputError", "Run", "compare", "encode_collection", "evaluate", "evaluation", "load_model", "open_index",
    "retrieval", "train",
]  # fmt: skip

# Public name -> the module that defines it. PyTorch and open_clip take seconds to import; whoever wants the metrics
# alone does not wait for them.
_DEFINED_IN = {
    "Run": "math_hash.training.run_folder",
    "compare": "math_hash.training.compare",
    "encode_collection": "math_hash.retrieval.encode",
    "evaluate": "math_hash.training.api",
    "load_model": "math_hash.models.load",
    "open_index": "math_hash.retrieval.opening",
    "train": "math_hash.training.api",
}


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        return getattr(import_module(_DEFINED_IN[name]), name)
    if name in __all__:
        return import_module(f"math_hash.{name}")
    raise AttributeError(f"module 'math_hash' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
