"""A dataset's folder: four `.mat` files and a manifest, read with checks and written as a whole."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.data.images import TarMember
from math_hash.errors import InputError
from math_hash.files import (
    MOST_MANIFEST,
    atomic_folder,
    atomic_writer,
    map_array,
    read_json,
    require_replaceable,
    sums_of,
    write_text,
)
from math_hash.mat import read_labels, read_strings, write_mat

MANIFEST, MEMBERS = "manifest.json", "members.npy"
_WRITTEN = (MANIFEST, "index.mat", "label.mat")  # what a dataset that this package wrote always holds


@dataclass
class DatasetFolder:
    """The n instances of a dataset.

    Attributes:
        path: the folder.
        images: n paths of pictures, absolute or relative to `image_root`.
        captions: n texts; one may be empty.
        labels: uint8 (n, c) of 0/1.
        label_texts: n strings, the names of each row's labels separated by blanks.
        image_root: the folder that relative paths start from.
        manifest: the content of `manifest.json`, empty where there is none.
        members: None, or where some pictures lie in tar files, int64 (n, 2): the first byte and the number of bytes of
            each, -1 for a picture that is a file of its own. The path of a picture in a tar file is
            `some.tar/name inside`.
    """

    path: Path
    images: list[str]
    captions: list[str]
    labels: np.ndarray
    label_texts: list[str]
    image_root: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    members: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def protocol(self) -> str:
        """The protocol's name, as the tool that built the folder recorded it."""
        return self.manifest.get("protocol", "own")

    @property
    def label_names(self) -> list[str]:
        """Names of the c label columns: of the manifest; without one, from rows with a single label, or numbers."""
        if names := self.manifest.get("label_names"):
            return names
        names = [f"label {column}" for column in range(self.labels.shape[1])]
        for row in np.flatnonzero(self.labels.sum(axis=1) == 1):
            names[int(self.labels[row].argmax())] = self.label_texts[row]
        return names

    @cached_property
    def texts(self) -> list[list[str]]:
        """Every text of each row; `captions` holds one of them."""
        return self.manifest.get("captions") or [[caption] for caption in self.captions]

    @cached_property
    def rows_sum(self) -> str:
        """SHA-256 of paths, texts and labels, in their order; building the same rows anew does not change it."""
        digest = hashlib.sha256(f"{self.labels.shape}".encode())
        digest.update(self.labels.astype(np.uint8).tobytes())
        for values in (self.images, self.captions, self.label_texts, self.texts):
            digest.update(json.dumps(values).encode())
        return digest.hexdigest()

    def image_path(self, row: int) -> Path | TarMember:
        """The file of one row's picture, or its place in a tar file.

        Raises:
            InputError: a relative path leads out of the image root.
        """
        if self.members is not None and self.members[row, 0] >= 0:
            member = TarMember.of(self.images[row], *self.members[row].tolist())
            return member._replace(tar=self._inside_root(row, str(member.tar)))
        return self._inside_root(row, self.images[row])

    def _inside_root(self, row: int, name: str) -> Path:
        try:
            return inside_root(self.image_root, name)
        except InputError as error:
            raise InputError(f"{self.path}, row {row}: {error}") from error


def inside_root(root: str | Path, name: str) -> Path:
    """The path of a picture: `name` where that is absolute, else `name` below `root`.

    Raises:
        InputError: a relative path leads out of the image root.

    >>> inside_root("pictures", "a/../b.jpg").as_posix()
    'pictures/b.jpg'
    """
    if os.path.isabs(name):
        return Path(name)
    root = os.path.normpath(root)
    path = os.path.normpath(os.path.join(root, name))
    if os.path.commonpath([os.path.abspath(root), os.path.abspath(path)]) != os.path.abspath(root):
        raise InputError(f"image path {name!r} leads out of the image root {root}")
    return Path(path)


def read_dataset(
    folder: str | Path,
    *,
    image_root: str | Path = "",
    index_file: str = "index.mat",
    caption_file: str = "caption.mat",
    label_file: str = "label.mat",
    label_t_file: str = "label_t.mat",
    allow_unlabelled: bool = False,
) -> DatasetFolder:
    """Read the four files of a dataset and check that they belong together.

    Args:
        folder: the dataset's folder.
        image_root: the folder that relative image paths start from; "" for the one that the manifest records.
        index_file, caption_file, label_file, label_t_file: names of the files inside the folder.
        allow_unlabelled: accept rows without a label.

    Raises:
        InputError: a file is missing or damaged, the lengths differ, or a row has no label though neither
            `allow_unlabelled` nor the manifest says that there are such rows.
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
    manifest = read_json(folder / MANIFEST, MOST_MANIFEST) if (folder / MANIFEST).exists() else {}
    without = np.flatnonzero(labels.sum(axis=1) == 0)
    if len(without) and not (allow_unlabelled or manifest.get("unlabelled_rows")):
        raise InputError(
            f"{folder / label_file}: row {without[0]} has no label ({len(without)} such rows); every row needs one"
        )
    root = Path(image_root) if image_root else folder / manifest.get("image_root", "")
    members = _read_members(folder / MEMBERS, len(images))
    return DatasetFolder(folder, images, captions, labels, label_texts, root, manifest, members)


def _read_members(path: Path, rows: int) -> np.ndarray | None:
    if not path.exists():
        return None
    members = map_array(path)
    if members.shape != (rows, 2) or members.dtype != np.int64:
        raise InputError(f"{path}: expected int64 ({rows}, 2), found {members.dtype} {members.shape}; build it again")
    return members


def write_dataset(
    folder: str | Path,
    *,
    images: list[str],
    captions: list[str],
    labels: np.ndarray,
    label_names: Sequence[str],
    protocol: str,
    image_root: str | Path = "",
    members: np.ndarray | None = None,
    texts: list[list[str]] | None = None,
    allow_unlabelled: bool = False,
    add_files: Callable[[Path], None] | None = None,
    details: Mapping[str, object] | None = None,
) -> DatasetFolder:
    """Write a dataset's folder as a whole: an older one of that name is replaced only when everything is written.

    Args:
        folder: the folder to write.
        images, captions: n paths relative to `image_root`, and n texts.
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
        label_names: names of the c columns.
        protocol: its name, for the manifest.
        image_root: where the pictures lie; recorded relative to the folder. "" is the folder itself.
        members: places of pictures in tar files, as `DatasetFolder` has them.
        texts: every text of each row, where there are several; the manifest keeps them as `captions`.
        allow_unlabelled: accept rows without a label; the manifest then counts them.
        add_files: called with the new folder, to put pictures or lists into it.
        details: further entries of the manifest.

    Returns:
        The folder, read again from what was written.

    Raises:
        InputError: the folder holds other things than a dataset, or the pictures themselves; it could not be written;
            or what was written fails the checks of `read_dataset`.
    """
    folder = Path(folder)
    require_free(folder, image_root)
    label_texts = [" ".join(label_names[column] for column in np.flatnonzero(row).tolist()) for row in labels]
    content: dict[str, list[str] | np.ndarray] = {
        "index": images,
        "caption": captions,
        "label": labels.astype(np.uint8),
        "label_t": label_texts,
    }
    entries = {
        "protocol": protocol,
        "rows": len(images),
        "unlabelled_rows": int((labels.sum(axis=1) == 0).sum()) if allow_unlabelled else 0,
        "label_names": list(label_names),
        "rows_a_label": dict(zip(label_names, labels.sum(axis=0, dtype=int).tolist(), strict=True)),
        "image_root": os.path.relpath(image_root, folder) if image_root else "",
        **(details or {}),
        **({"captions": texts} if texts else {}),
    }
    with atomic_folder(folder, _WRITTEN) as building:
        _write_files(building, content, members, entries, add_files)
        read_dataset(building)
    return read_dataset(folder)


def require_free(folder: Path, image_root: str | Path = "") -> None:
    """Refuse to write a dataset over other things than a dataset of this package, or over the pictures.

    Raises:
        InputError: a file, other things or the pictures are there.
    """
    require_replaceable(folder, _WRITTEN)
    if image_root and Path(image_root).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: holds the pictures and would be replaced; choose another `output`")


def _write_files(
    folder: Path,
    content: Mapping[str, list[str] | np.ndarray],
    members: np.ndarray | None,
    entries: Mapping[str, object],
    add_files: Callable[[Path], None] | None,
) -> None:
    """Write the `.mat` files, `members.npy`, what `add_files` adds, and the manifest with everything's sums."""
    for key, value in content.items():
        write_mat(folder / f"{key}.mat", {key: value})
    if members is not None:
        with atomic_writer(folder / MEMBERS) as file:
            np.save(file, members.astype(np.int64))
    if add_files:
        add_files(folder)
    summed = sorted(path.name for path in folder.iterdir() if path.suffix in (".mat", ".npy"))
    write_manifest(folder, {**entries, "sha256": sums_of(folder, summed)})


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json`, indented, with the texts of each row on one line."""
    plain = {name: value for name, value in manifest.items() if name != "captions"}
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    if "captions" in manifest:
        rows = ",\n    ".join(json.dumps(texts, ensure_ascii=False) for texts in manifest["captions"])
        text = f'{text[:-2]},\n  "captions": [\n    {rows}\n  ]\n}}'
    write_text(folder / MANIFEST, text + "\n")
