"""Build MIRFlickr-25K, dataset/flickr25k, from its official download or from the MATH release's lists.

From the official files (mirflickr25k.zip and mirflickr25k_annotations_v080.zip, unpacked into one folder):

  math-hash dataset make flickr25k --raw DOWNLOAD

From all_imgs.txt, all_tags.txt, all_labels.txt and labels_annotation.txt, with the pictures:

  math-hash dataset make flickr25k --lists LISTS --image-root DOWNLOAD/mirflickr

The protocol `flickr25k` keeps the tags that occur at least 20 times over all 25,000 instances (1,386 tags), and the
20,015 instances that have such a tag and one of the 24 labels. `flickr25k-24581` keeps every instance with a label.
"""

import argparse
import os
import re
from collections import Counter
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
    "animals baby bird car clouds dog female flower food indoor lake male night people plant_life portrait river sea "
    "sky structures sunset transport tree water"
).split()
INSTANCES = 25000
TAGS, TAG_MINIMUM = 1386, 20
_TAG_FILE = re.compile(r"tags(\d+)\.txt")


def read_raw(raw: Path, images: Path, protocol: str, tag_list: Path | None, allow_partial: bool) -> Source:
    """Read the official files and reduce them to the protocol, in the order of the image numbers.

    Raises:
        InputError: files are missing, or counts deviate from the protocol.
    """
    require_files(raw, ["mirflickr/meta/tags"])
    matches = map(_TAG_FILE.fullmatch, os.listdir(raw / "mirflickr/meta/tags"))
    numbers = sorted(int(match[1]) for match in matches if match)
    if len(numbers) != INSTANCES and not allow_partial:
        absent = sorted(set(range(1, INSTANCES + 1)) - set(numbers))[:3]
        names = ", ".join(f"tags{number}.txt" for number in absent)
        raise InputError(
            f"{raw}/mirflickr/meta/tags: expected {INSTANCES} tag files, found {len(numbers)}; missing are {names}, ..."
        )
    tags = [
        [tag.strip() for tag in read_lines(raw / f"mirflickr/meta/tags/tags{number}.txt") if tag.strip()]
        for number in numbers
    ]
    place = {number: row for row, number in enumerate(numbers)}
    labels = np.zeros((len(numbers), len(LABELS)), np.uint8)
    annotations = _annotations(raw)
    for column, name in enumerate(LABELS):
        for line in filter(str.strip, read_lines(annotations / f"{name}.txt")):
            if not line.strip().isdigit() or int(line) not in place:
                if allow_partial and line.strip().isdigit():
                    continue
                raise InputError(f"{annotations}/{name}.txt: {line.strip()!r} is not the number of an instance")
            labels[place[int(line)], column] = 1
    keep = labels.any(axis=1)
    if protocol == "flickr25k":
        vocabulary = _vocabulary(tags, tag_list, allow_partial)
        tags = [[tag for tag in row if tag in vocabulary] for row in tags]
        keep &= np.array([bool(row) for row in tags])
    rows = np.flatnonzero(keep)
    root, paths = locate_images([f"mirflickr/im{numbers[row]}.jpg" for row in rows], images)
    return Source(root, paths, [[" ".join(tags[row])] for row in rows], labels[rows], LABELS)


def _annotations(raw: Path) -> Path:
    """The folder of the v080 annotation files, one per label; the `_r1` files beside them are not used."""
    for path in sorted(raw.rglob("plant_life.txt")):
        if all((path.parent / f"{name}.txt").exists() for name in LABELS):
            return path.parent
    raise InputError(
        f"{raw}: holds no folder with the 24 annotation files animals.txt ... water.txt; "
        "unpack mirflickr25k_annotations_v080.zip into it"
    )


def _vocabulary(tags: list[list[str]], tag_list: Path | None, allow_partial: bool) -> set[str]:
    if tag_list:
        return {line.strip() for line in read_lines(tag_list) if line.strip()}
    counts = Counter(tag for row in tags for tag in row)
    vocabulary = {tag for tag, count in counts.items() if count >= TAG_MINIMUM}
    if len(vocabulary) != TAGS and not allow_partial:
        raise InputError(
            f"expected {TAGS} tags that occur at least {TAG_MINIMUM} times, found {len(vocabulary)}; "
            "is the download complete? (`allow_partial` goes on)"
        )
    return vocabulary


def build(flags: argparse.Namespace) -> None:
    """Read the source, check it against the protocol, write the dataset's folder.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: anything is missing or deviates.
    """
    if flags.raw:
        images = flags.image_root or flags.raw
        source = read_raw(flags.raw, images, flags.protocol, flags.tag_list, flags.allow_partial)
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
    parser = tool_parser(prog, __doc__, "dataset/flickr25k", "the official mirflickr/ and the annotation files")
    parser.add_argument(
        "--protocol",
        choices=("flickr25k", "flickr25k-24581"),
        default="flickr25k",
        help="with --raw: which instances (flickr25k)",
    )
    parser.add_argument("--tag-list", type=Path, help="with --raw: file of the tags to keep, one per line")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
