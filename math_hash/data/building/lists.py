"""The list files of the MATH release, and where the pictures that they name lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from math_hash.data.building.source import Source, label_matrix
from math_hash.data.text_files import read_lines
from math_hash.errors import InputError


def require_files(folder: str | Path, names: Sequence[str]) -> list[Path]:
    """The paths of the named files inside a folder.

    Raises:
        InputError: one is missing; the message says what was looked for and what is there.
    """
    folder = Path(folder)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        there = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
        content = f"found {', '.join(there) or 'nothing'}" if there is not None else "there is no such folder"
        raise InputError(f"{folder}: {', '.join(missing)} not there (looked for {', '.join(names)}; {content})")
    return [folder / name for name in names]


def read_lists(
    folder: str | Path, label_names: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]], np.ndarray, list[str]]:
    """Read the four list files of the MATH release, one line per instance.

    Args:
        folder: holds `all_imgs.txt`; `all_tags.txt` (separated by commas) or `all_txts.txt` (texts, separated by
            semicolons); `all_labels.txt` (columns of 0/1); `labels_annotation.txt` (label names, separated by commas).
        label_names: names of the columns, in order, compared without regard to case. None: the names in
            `labels_annotation.txt`, each given to the column that it agrees with.

    Returns:
        Image paths; the tags or texts of each instance; labels, uint8 (n, c); names of the columns.

    Raises:
        InputError: a file is missing, lengths differ, or the two label files contradict each other.
    """
    texts = "all_tags.txt" if (Path(folder) / "all_tags.txt").exists() else "all_txts.txt"
    paths = require_files(folder, ("all_imgs.txt", texts, "all_labels.txt", "labels_annotation.txt"))
    images, lines, rows, annotations = (read_lines(path) for path in paths)
    for path, content in zip(paths[1:], (lines, rows, annotations), strict=True):
        if len(content) != len(images):
            raise InputError(
                f"{paths[0]} has {len(images)} lines, {path} has {len(content)}; they must come from one build"
            )
    named = [[name.strip() for name in line.split(",") if name.strip()] for line in annotations]
    if label_names is None:
        names = sorted({name for row in named for name in row})
    else:
        names = list(label_names)
        spelled = {name.lower(): name for name in names}
        named = [[spelled.get(name.lower(), name) for name in row] for row in named]
    labels = _label_columns(paths[2], rows, len(names))
    expected = label_matrix(named, names, lambda row: f"{paths[3]}, line {row + 1}")
    if label_names is None:
        place = {column.tobytes(): column_name for column, column_name in zip(expected.T, names, strict=True)}
        names = [place.get(column.tobytes(), "") for column in labels.T]
        if "" in names or len(set(names)) < len(names):
            raise InputError(f"{paths[3]}: names other labels than {paths[2]}; they must come from one build")
    elif len(wrong := np.flatnonzero((expected != labels).any(axis=1))):
        raise InputError(f"{paths[3]}, line {wrong[0] + 1}: names other labels than the same line of {paths[2]}")
    separator = "," if texts == "all_tags.txt" else ";"
    return (
        [image.strip().replace("\\", "/") for image in images],
        [[text.strip() for text in line.split(separator) if text.strip()] for line in lines],
        labels,
        names,
    )


def _label_columns(path: Path, lines: list[str], columns: int) -> np.ndarray:
    labels = np.zeros((len(lines), columns), np.uint8)
    for row, line in enumerate(lines):
        values = line.split()
        if len(values) != columns or set(values) - {"0", "1"}:
            raise InputError(f"{path}, line {row + 1}: expected {columns} values of 0 or 1")
        labels[row] = [value == "1" for value in values]
    return labels


def source_from_lists(
    folder: Path, images: Path | None, label_names: Sequence[str] | None = None, join: str | None = " "
) -> Source:
    """The rows with a label of the MATH release's lists, with their pictures.

    Args:
        folder, label_names: as for `read_lists`.
        images: folder of the pictures; None: `folder`.
        join: separator that joins the tags or phrases of a row into one text; None: each is a text of its own.

    Raises:
        InputError: as `read_lists` and `locate_images`.
    """
    listed, parts, labels, names = read_lists(folder, label_names)
    root, paths = locate_images(listed, images or folder)
    texts = parts if join is None else [[join.join(row)] if row else [] for row in parts]
    return Source(root, paths, texts, labels, names).rows(np.flatnonzero(labels.any(axis=1)))


def locate_images(names: Sequence[str], folder: str | Path) -> tuple[Path, list[str]]:
    """Find the root that listed image paths start from.

    A list says `mirflickr/im1.jpg`; people name the folder above `mirflickr`, one still further up, `mirflickr`
    itself, or one that holds the files directly.

    Returns:
        The image root, and the paths relative to it.

    Raises:
        InputError: none of the listed pictures is there.
    """
    folder = Path(folder)
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    listed, bare = list(names), [Path(name).name for name in names]
    for root, relative in [(root, listed) for root in (folder, *inside, folder.resolve().parent)] + [(folder, bare)]:
        if any((root / name).is_file() for name in relative):
            return root, relative
    example = names[0] if names else "nothing"
    raise InputError(
        f"{folder}: holds none of the {len(names)} listed pictures, such as {example}; name their folder with "
        "`image_root`"
    )
