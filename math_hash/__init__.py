"""math_hash: deep cross-modal hashing on CLIP."""

import os
from importlib.metadata import PackageNotFoundError, version

from math_hash.errors import InputError

# numba's OpenMP layer, when it starts, sets its number of threads for the whole process, PyTorch included: with all
# cores, several processes that a launcher gave one thread each would fight for the same cores
if os.environ.get("OMP_NUM_THREADS", "").isdigit():
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, int(os.environ["OMP_NUM_THREADS"]))))

try:
    __version__ = version("math_hash")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = ["InputError", "load_model"]


def __getattr__(name: str):
    # PyTorch and open_clip take seconds to import; whoever wants the evaluation alone does not wait for them
    if name == "load_model":
        from math_hash.models.load import load_model

        return load_model
    raise AttributeError(f"module 'math_hash' has no attribute {name!r}")
