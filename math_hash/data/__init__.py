"""Datasets: the `.mat` files of the releases, the split, and rows as the encoder takes them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from math_hash.data.needs import EVERYTHING, POOLED, Needs
from math_hash.data.split import Split, split_rows

if TYPE_CHECKING:
    from math_hash.data.feature_folder import FeatureFolder
    from math_hash.data.folder import DatasetFolder, read_dataset, write_dataset
    from math_hash.data.images import ImageTransform, TarMember, inspect_images, open_image
    from math_hash.data.pairs import FeaturePairDataset, PairDataset, Pairs, load_batches
    from math_hash.mat import read_labels, read_strings, write_mat

__all__ = [
    "EVERYTHING",
    "POOLED",
    "DatasetFolder",
    "FeatureFolder",
    "FeaturePairDataset",
    "ImageTransform",
    "Needs",
    "PairDataset",
    "Pairs",
    "Split",
    "TarMember",
    "inspect_images",
    "load_batches",
    "open_image",
    "read_dataset",
    "read_labels",
    "read_strings",
    "split_rows",
    "write_dataset",
    "write_mat",
]

_HEAVY = {
    "data.feature_folder": ("FeatureFolder",),
    "data.folder": ("DatasetFolder", "read_dataset", "write_dataset"),
    "data.images": ("ImageTransform", "TarMember", "inspect_images", "open_image"),
    "data.pairs": ("FeaturePairDataset", "PairDataset", "Pairs", "load_batches"),
    "mat": ("read_labels", "read_strings", "write_mat"),
}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import, SciPy and h5py a part of one; whoever wants the split alone does not wait
    for module, names in _HEAVY.items():
        if name in names:
            return getattr(import_module(f"math_hash.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
