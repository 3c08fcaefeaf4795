"""Build NUS-WIDE, dataset/nuswide, from its official files or from the MATH release's lists.

From the official files, unpacked into one folder (ImageList/, Groundtruth/, NUS_WID_Tags/ and the pictures):

  math-hash dataset make nuswide --raw DOWNLOAD --image-root DOWNLOAD/Flickr

From all_imgs.txt, all_tags.txt, all_labels.txt and labels_annotation.txt:

  math-hash dataset make nuswide --lists LISTS --image-root DOWNLOAD/Flickr

Both protocols keep the 21 most frequent of the 81 concepts. `nuswide`: the 190,421 instances with such a concept and
one of the 1,000 tags of TagList1k.txt. `nuswide-195834`: every instance with such a concept. The text of an instance
is its tags among the 1,000, in the order in which they were given.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from math_hash.data.building.arguments import tool_parser
from math_hash.data.building.build import build_dataset
from math_hash.data.building.lists import locate_images, require_files, source_from_lists
from math_hash.data.building.source import Source
from math_hash.data.text_files import read_lines
from math_hash.errors import InputError, exit_code

LABELS = (
    "animal beach buildings clouds flowers grass lake mountain ocean person plants reflection road rocks sky snow "
    "sunset tree vehicle water window"
).split()
LIST, TAGS, TAG_LIST = "ImageList/Imagelist.txt", "NUS_WID_Tags/All_Tags.txt", "NUS_WID_Tags/TagList1k.txt"


def read_raw(raw: Path, images: Path, protocol: str) -> Source:
    """Read the official files and reduce them to the protocol, in the order of Imagelist.txt.

    Raises:
        InputError: files are missing, or do not belong together.
    """
    truth = [f"Groundtruth/AllLabels/Labels_{name}.txt" for name in LABELS]
    list_file, tag_file, vocabulary_file, *label_files = require_files(raw, [LIST, TAGS, TAG_LIST, *truth])
    names = [line.strip().replace("\\", "/") for line in read_lines(list_file) if line.strip()]
    vocabulary = {line.strip() for line in read_lines(vocabulary_file) if line.strip()}
    tags = _tags(tag_file, vocabulary, list_file, names)
    labels = np.stack([_column(path, list_file, len(names)) for path in label_files], axis=1)
    keep = labels.any(axis=1)
    if protocol == "nuswide":
        keep &= np.array([bool(row) for row in tags])
    rows = np.flatnonzero(keep)
    root, paths = locate_images([names[row] for row in rows], images)
    return Source(root, paths, [[" ".join(tags[row])] for row in rows], labels[rows], LABELS)


def _tags(path: Path, vocabulary: set[str], list_file: Path, names: list[str]) -> list[list[str]]:
    """The known tags of each instance; a line is the Flickr number of the picture and its tags."""
    lines = [line.split() for line in read_lines(path) if line.strip()]
    _same_length(list_file, len(names), path, len(lines))
    for row, (name, line) in enumerate(zip(names, lines, strict=True)):
        if Path(name).stem.split("_")[-1] != line[0]:
            raise InputError(f"{path}, line {row + 1}: tags of {line[0]}, but {list_file} lists {name} there")
    return [[tag for tag in line[1:] if tag in vocabulary] for line in lines]


def _column(path: Path, list_file: Path, rows: int) -> np.ndarray:
    values = "\n".join(read_lines(path)).split()
    _same_length(list_file, rows, path, len(values))
    if wrong := set(values) - {"0", "1"}:
        row = next(row for row, value in enumerate(values) if value in wrong)
        raise InputError(f"{path}, line {row + 1}: {values[row]!r} is not a label; expected 0 or 1")
    return (np.array(values) == "1").astype(np.uint8)


def _same_length(first: Path, length: int, second: Path, other: int) -> None:
    if length != other:
        raise InputError(f"{first} has {length} lines, {second} has {other}; are both downloads complete?")


def build(flags: argparse.Namespace) -> None:
    """Read the source, check it against the protocol, write the dataset's folder.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: anything is missing or deviates.
    """
    if flags.raw:
        source = read_raw(flags.raw, flags.image_root or flags.raw, flags.protocol)
    else:
        source = source_from_lists(flags.lists, flags.image_root, LABELS)
    build_dataset(
        source,
        flags.output,
        protocol=flags.protocol,
        check=flags.check,
        allow_partial=flags.allow_partial,
    )


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    parser = tool_parser(prog, __doc__, "dataset/nuswide", "ImageList/, Groundtruth/ and NUS_WID_Tags/")
    parser.add_argument(
        "--protocol", choices=("nuswide", "nuswide-195834"), default="nuswide", help="which instances (nuswide)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
