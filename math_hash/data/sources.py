"""What the tools that build datasets share: reading list files, finding pictures, checking counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from math_hash.data.images import bad_images
from math_hash.errors import InputError


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, without line ends: UTF-8, or Latin-1 where a file is not; LF or CRLF.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def require_files(folder: str | Path, names: Sequence[str]) -> list[Path]:
    """The paths of the named files inside a folder.

    Raises:
        InputError: one is missing; the message says what was looked for and what was found.
    """
    folder = Path(folder)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        there = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
        found = f"found {', '.join(there) or 'nothing'}" if there is not None else "there is no such folder"
        raise InputError(f"{folder}: {', '.join(missing)} not there (looked for {', '.join(names)}; {found})")
    return [folder / name for name in names]


def read_lists(folder: str | Path, label_names: Sequence[str]) -> tuple[list[str], list[list[str]], np.ndarray]:
    """Read the four list files of the MATH release, a line an instance.

    Args:
        folder: holds `all_imgs.txt`, `all_tags.txt` (separated by commas), `all_labels.txt` (columns of 0/1),
            `labels_annotation.txt` (label names, separated by commas).
        label_names: names of the columns, in order.

    Returns:
        Image paths; the tags of each instance; labels, uint8 (n, c).

    Raises:
        InputError: a file is missing, lengths differ, or the two label files contradict each other.
    """
    names = ("all_imgs.txt", "all_tags.txt", "all_labels.txt", "labels_annotation.txt")
    paths = require_files(folder, names)
    images, tags, rows, annotations = (read_lines(path) for path in paths)
    for path, lines in zip(paths[1:], (tags, rows, annotations), strict=True):
        if len(lines) != len(images):
            raise InputError(f"{paths[0]} has {len(images)} lines, {path} has {len(lines)}; they must be of one build")
    labels = np.zeros((len(rows), len(label_names)), np.uint8)
    for row, line in enumerate(rows):
        values = line.split()
        if len(values) != len(label_names) or set(values) - {"0", "1"}:
            raise InputError(f"{paths[2]}, line {row + 1}: expected {len(label_names)} values of 0 or 1")
        labels[row] = [value == "1" for value in values]
    column = {name: place for place, name in enumerate(label_names)}
    for row, line in enumerate(annotations):
        named = {name.strip() for name in line.split(",") if name.strip()}
        unknown = named - column.keys()
        if unknown:
            raise InputError(f"{paths[3]}, line {row + 1}: unknown label {', '.join(sorted(unknown))}")
        if named != {label_names[place] for place in np.flatnonzero(labels[row])}:
            raise InputError(f"{paths[3]}, line {row + 1}: names other labels than the same line of {paths[2]}")
    return images, [[tag for tag in line.split(",") if tag] for line in tags], labels


def locate_images(names: Sequence[str], folder: str | Path) -> tuple[Path, list[str]]:
    """Find the root that listed image paths start from.

    A list says `mirflickr/im1.jpg`; people name the folder above `mirflickr`, `mirflickr` itself, or one that holds
    the files directly.

    Returns:
        The image root, and the paths relative to it.

    Raises:
        InputError: not one of the listed pictures is there.
    """
    folder = Path(folder)
    for root, relative in (
        (folder, list(names)),
        (folder.resolve().parent, list(names)),
        (folder, [Path(name).name for name in names]),
    ):
        if any((root / name).is_file() for name in relative):
            return root, relative
    example = names[0] if names else "nothing"
    raise InputError(f"--images {folder}: holds none of the {len(names)} listed pictures, such as {example}")


def usable_rows(
    root: Path, images: Sequence[str], expected: int, check: str, allow_partial: bool, progress: bool
) -> np.ndarray:
    """Check the pictures, and the number of rows against the protocol.

    Args:
        expected: rows of the protocol.
        check: "full" decodes every picture, "fast" only sees that it is there.
        allow_partial: leave unusable rows out, and accept another number of rows, with a note on the terminal.

    Returns:
        Numbers of the rows to keep, int64.

    Raises:
        InputError: without `allow_partial`, a picture is unusable or the number of rows deviates.
    """
    bad = bad_images([root / name for name in images], decode=check == "full", progress=progress)
    kept = np.setdiff1d(np.arange(len(images)), np.fromiter(bad, int))
    if len(kept) != expected or bad:
        listing = "; ".join(list(bad.values())[:3]) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else "")
        message = f"expected {expected} rows, found {len(kept)}, with {len(bad)} pictures missing or unreadable"
        message += f": {listing}" if bad else ""
        if not allow_partial:
            raise InputError(f"{message}; complete the download, or use --allow-partial")
        print(f"note: {message}")
    return kept
