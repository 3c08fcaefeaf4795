"""A dataset's folder: four `.mat` files and a manifest, read with checks and written as a whole."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.data.mat import read_labels, read_strings, write_mat
from math_hash.errors import InputError
from math_hash.files import atomic_folder, read_json, sha256, write_text

MANIFEST = "manifest.json"


@dataclass
class DatasetFolder:
    """n instances: `images` and `captions` and `label_texts` (n strings), `labels` uint8 (n, c) of 0/1."""

    path: Path
    images: list[str]
    captions: list[str]
    labels: np.ndarray
    label_texts: list[str]
    image_root: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def protocol(self) -> str:
        """The protocol's name, as the tool that built the folder recorded it."""
        return self.manifest.get("protocol", "own")

    def image_path(self, row: int) -> Path:
        """The file of one row's picture.

        Raises:
            InputError: a relative path leads out of the image root.
        """
        name = self.images[row]
        if os.path.isabs(name):
            return Path(name)
        root = os.path.normpath(self.image_root)
        path = os.path.normpath(os.path.join(root, name))
        if os.path.commonpath([os.path.abspath(root), os.path.abspath(path)]) != os.path.abspath(root):
            raise InputError(f"{self.path}, row {row}: image path {name!r} leads out of the image root {root}")
        return Path(path)


def read_dataset(
    folder: str | Path,
    *,
    image_root: str = "",
    index_file: str = "index.mat",
    caption_file: str = "caption.mat",
    label_file: str = "label.mat",
    label_t_file: str = "label_t.mat",
) -> DatasetFolder:
    """Read the four files of a dataset and check that they belong together.

    Raises:
        InputError: a file is missing or damaged, the lengths differ, or a row has no label.
    """
    folder = Path(folder)
    images = read_strings(folder / index_file, "index")
    captions = read_strings(folder / caption_file, "caption")
    labels = read_labels(folder / label_file, "label")
    label_texts = read_strings(folder / label_t_file, "label_t")
    lengths = {
        index_file: len(images),
        caption_file: len(captions),
        label_file: len(labels),
        label_t_file: len(label_texts),
    }
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{folder}: the files differ in length: {listing} rows; they must come from one build")
    without = np.flatnonzero(labels.sum(axis=1) == 0)
    if len(without):
        raise InputError(
            f"{folder / label_file}: row {without[0]} has no label ({len(without)} such rows); every row needs one"
        )
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}
    root = Path(image_root) if image_root else folder / manifest.get("image_root", "")
    return DatasetFolder(folder, images, captions, labels, label_texts, root, manifest)


def write_dataset(
    folder: str | Path,
    *,
    images: list[str],
    captions: list[str],
    labels: np.ndarray,
    label_names: list[str],
    protocol: str,
    image_root: str | Path = "",
    add_files: Callable[[Path], None] | None = None,
    **details: Any,
) -> DatasetFolder:
    """Write a dataset's folder as a whole: an older one under that name is replaced only when all is written.

    Args:
        images: n paths relative to `image_root`.
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
        image_root: where the pictures lie; recorded relative to the folder. "" is the folder itself.
        add_files: called with the new folder, to put pictures into it.
        details: further entries of the manifest.

    Returns:
        The folder, read again from what was written.

    Raises:
        InputError: the folder could not be written, or what was written fails the checks of `read_dataset`.
    """
    folder = Path(folder)
    label_texts = [" ".join(label_names[column] for column in np.flatnonzero(row)) for row in labels]
    content = {"index": images, "caption": captions, "label": labels.astype(np.uint8), "label_t": label_texts}
    root = os.path.relpath(image_root, folder) if image_root else ""
    with atomic_folder(folder) as building:
        for key, value in content.items():
            write_mat(building / f"{key}.mat", {key: value})
        if add_files:
            add_files(building)
        manifest = {
            "protocol": protocol,
            "rows": len(images),
            "label_names": label_names,
            "rows_a_label": dict(zip(label_names, labels.sum(axis=0, dtype=int).tolist(), strict=True)),
            "image_root": root,
            **details,
            "sha256": {f"{key}.mat": sha256(building / f"{key}.mat") for key in content},
        }
        write_text(building / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        read_dataset(building)
    return read_dataset(folder)
