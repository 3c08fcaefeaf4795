"""math_hash: deep cross-modal hashing on CLIP."""

from importlib.metadata import PackageNotFoundError, version

from math_hash.errors import InputError

try:
    __version__ = version("math_hash")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = ["InputError", "load_model"]


def __getattr__(name: str):
    # PyTorch and open_clip take seconds to import; whoever wants the evaluation alone does not wait for them
    if name == "load_model":
        from math_hash.loading import load_model

        return load_model
    raise AttributeError(f"module 'math_hash' has no attribute {name!r}")
