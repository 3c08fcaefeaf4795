"""Build IAPR TC-12, dataset/iaprtc12, from its official downloads or from the MATH release's lists.

From iaprtc12.tgz (annotations_complete_eng/ and images/) and the segmented set saiapr_tc-12 (a labels.txt in each of
its folders, and wlist.txt), unpacked into one folder, at any depth:

  math-hash dataset make iaprtc12 --raw DOWNLOAD

From all_imgs.txt, all_txts.txt, all_labels.txt and labels_annotation.txt:

  math-hash dataset make iaprtc12 --lists LISTS --image-root DOWNLOAD

20,000 pictures, ordered by their number, with the 255 labels of the segmented set that occur. The text is the
English description, without title and notes.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from math_hash.data.building.arguments import tool_parser
from math_hash.data.building.build import build_dataset
from math_hash.data.building.lists import locate_images, require_files, source_from_lists
from math_hash.data.building.source import Source
from math_hash.data.text_files import read_lines, read_text
from math_hash.errors import InputError, exit_code


def read_raw(raw: Path, images: Path) -> Source:
    """Read the official files, in the order of the picture numbers.

    Raises:
        InputError: files are missing or damaged, or name something unknown.
    """
    annotations = _one(raw, "annotations_complete_eng", "the English annotations of iaprtc12.tgz")
    names_file = _one(raw, "wlist.txt", "the label names of the segmented set saiapr_tc-12")
    names = dict(_pair(names_file, row, line) for row, line in enumerate(read_lines(names_file)) if line.strip())
    labels: dict[int, set[str]] = {}
    label_files = sorted(names_file.parent.rglob("labels.txt"))
    if not label_files:
        raise InputError(f"{names_file.parent}: holds no labels.txt; unpack the whole saiapr_tc-12 there")
    for path in label_files:
        for row, line in enumerate(read_lines(path)):
            if not line.strip():
                continue
            values = line.split()
            if len(values) < 3 or not all(value.isdigit() for value in values[:3]):
                raise InputError(f"{path}, line {row + 1}: expected the numbers of a picture, a region and a label")
            if values[2] not in names:
                raise InputError(f"{path}, line {row + 1}: unknown label {values[2]}; {names_file} does not name it")
            labels.setdefault(int(values[0]), set()).add(names[values[2]])
    numbers = sorted(labels)
    used = sorted({name for row in labels.values() for name in row})
    described = {int(path.stem): path for path in annotations.rglob("*.eng") if path.stem.isdigit()}
    texts = [_description(described[number]) if number in described else [] for number in numbers]
    # the picture's folder is that of its annotation; without one, that of the labels
    folder = {number: path.parent.name for number, path in described.items()}
    listed = [f"images/{folder.get(number, f'{number // 1000:02d}')}/{number}.jpg" for number in numbers]
    root, paths = locate_images(listed, annotations.parent if images == raw else images)
    matrix = np.array([[name in labels[number] for name in used] for number in numbers], np.uint8)
    return Source(root, paths, texts, matrix, used)


def _one(raw: Path, name: str, what: str) -> Path:
    paths = sorted(raw.rglob(name)) if raw.is_dir() else []
    if not paths:
        require_files(raw, [name])
        raise InputError(f"{raw}: holds no {name}, {what}; unpack it there")
    return paths[0]


def _pair(path: Path, row: int, line: str) -> tuple[str, str]:
    number, _, name = line.strip().partition("\t") if "\t" in line else line.strip().partition(" ")
    if not number.isdigit():
        raise InputError(f"{path}, line {row + 1}: expected the number and the name of a label")
    return number, name.strip() or f"label {number}"


def _description(path: Path) -> list[str]:
    match = re.search(r"<DESCRIPTION>(.*?)</DESCRIPTION>", read_text(path), re.DOTALL)
    text = " ".join(match[1].split()) if match else ""
    return [text] if text else []


def build(flags: argparse.Namespace) -> None:
    """Read the source, check it against the protocol, write the dataset's folder.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: anything is missing or deviates.
    """
    if flags.raw:
        source = read_raw(flags.raw, flags.image_root or flags.raw)
    else:
        source = source_from_lists(flags.lists, flags.image_root, join="; ")
    build_dataset(source, flags.output, protocol="iaprtc12", check=flags.check, allow_partial=flags.allow_partial)


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    return tool_parser(prog, __doc__, "dataset/iaprtc12", "the unpacked downloads")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
