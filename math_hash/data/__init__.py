"""Datasets: the `.mat` files of the releases, the split, and rows as the encoder takes them."""

from math_hash.data.feature_folder import FeatureFolder
from math_hash.data.folder import DatasetFolder, read_dataset, write_dataset
from math_hash.data.images import ImageTransform, TarMember, inspect_images, open_image
from math_hash.data.needs import EVERYTHING, POOLED, Needs
from math_hash.data.pairs import FeaturePairDataset, PairDataset, Pairs, load_batches
from math_hash.data.split import Split, split_rows
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
