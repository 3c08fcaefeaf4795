"""Datasets: the `.mat` files of the releases, the split, and rows as the encoder takes them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from math_hash.data.needs import EVERYTHING, POOLED, Needs
from math_hash.data.split import Split, split_rows
from math_hash.mat import read_labels, read_strings, write_mat

if TYPE_CHECKING:
    from math_hash.data.feature_folder import FeatureFolder
    from math_hash.data.folder import DatasetFolder, read_dataset, write_dataset
    from math_hash.data.images import ImageTransform, TarMember, inspect_images, open_image
    from math_hash.data.pairs import FeaturePairDataset, PairDataset, Pairs, load_batches

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

_NEED_PYTORCH = {
    "feature_folder": ("FeatureFolder",),
    "folder": ("DatasetFolder", "read_dataset", "write_dataset"),
    "images": ("ImageTransform", "TarMember", "inspect_images", "open_image"),
    "pairs": ("FeaturePairDataset", "PairDataset", "Pairs", "load_batches"),
}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; whoever wants the split alone does not wait for it
    for file, names in _NEED_PYTORCH.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
