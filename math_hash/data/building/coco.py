"""Build MS COCO, dataset/coco, from its official files or from the MATH release's lists.

From annotations/ (instances_*.json and captions_*.json of 2014 or 2017) and the folders of the pictures:

  math-hash dataset make coco --raw DOWNLOAD

From all_imgs.txt, all_txts.txt, all_labels.txt and labels_annotation.txt:

  math-hash dataset make coco --lists LISTS --image-root DOWNLOAD

Training and validation pictures are joined and ordered by their number, so that 2014 and 2017 give the same rows:
123,287, of which the 122,218 with one of the 80 labels are kept. `caption.mat` gets one of a picture's captions, the
manifest keeps all of them; training with `--draw-captions` draws another one in each epoch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.data.building.arguments import tool_parser
from math_hash.data.building.build import build_dataset
from math_hash.data.building.lists import locate_images, require_files, source_from_lists
from math_hash.data.building.source import Source
from math_hash.errors import InputError, exit_code
from math_hash.files import read_bytes
from math_hash.plain_data import parse_json

_MOST_BYTES = 1 << 31  # of an annotation file; the largest official one has 470 MB

LABELS = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")


def read_raw(raw: Path, images: Path, year: str | None) -> Source:
    """Read the official files: rows with a label, in the order of the picture numbers.

    Raises:
        InputError: files are missing or damaged, or name something unknown.
    """
    if year is None:
        years = [year for year in ("2014", "2017") if (raw / f"annotations/instances_train{year}.json").exists()]
        year = years[0] if years else "2017"
    parts = [f"{part}{year}" for part in ("train", "val")]
    instance_files = require_files(raw, [f"annotations/instances_{part}.json" for part in parts])
    caption_files = require_files(raw, [f"annotations/captions_{part}.json" for part in parts])
    names: dict[int, str] = {}
    labels: dict[int, set[str]] = {}
    for part, path in zip(parts, instance_files, strict=True):
        content = _read(path, ("images", "annotations", "categories"))
        category = {item["id"]: item["name"] for item in content["categories"]}
        names.update((item["id"], f"{part}/{item['file_name']}") for item in content["images"])
        for item in content["annotations"]:
            if item["image_id"] not in names or category.get(item["category_id"]) not in LABELS:
                raise InputError(
                    f"{path}: annotation {item['id']} is of picture {item['image_id']} and category "
                    f"{item['category_id']}, which the file does not have or this protocol does not know"
                )
            labels.setdefault(item["image_id"], set()).add(category[item["category_id"]])
    texts: dict[int, list[str]] = {}
    for path in caption_files:
        for item in sorted(_read(path, ("annotations",))["annotations"], key=lambda item: item["id"]):
            texts.setdefault(item["image_id"], []).append(" ".join(item["caption"].split()))
    numbers = sorted(number for number in names if number in labels)
    root, paths = locate_images([names[number] for number in numbers], images)
    matrix = np.array([[name in labels[number] for name in LABELS] for number in numbers], np.uint8)
    return Source(root, paths, [texts.get(number, []) for number in numbers], matrix, LABELS)


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); download it again") from error
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise InputError(f"{path}: has no {', '.join(missing)}; expected an official annotation file of COCO")
    return content


def build(flags: argparse.Namespace) -> None:
    """Read the source, check it against the protocol, write the dataset's folder.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: anything is missing or deviates.
    """
    if flags.raw:
        source = read_raw(flags.raw, flags.image_root or flags.raw, flags.year)
    else:
        source = source_from_lists(flags.lists, flags.image_root, LABELS, join=None)
    build_dataset(
        source,
        flags.output,
        protocol="coco",
        check=flags.check,
        allow_partial=flags.allow_partial,
        caption=flags.caption,
        seed=flags.seed,
    )


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    parser = tool_parser(prog, __doc__, "dataset/coco", "annotations/ and the folders of the pictures")
    parser.add_argument("--year", choices=("2014", "2017"), help="with --raw: which edition (default: the one there)")
    parser.add_argument(
        "--caption", choices=("first", "random"), default="first", help="the caption that caption.mat gets (first)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of --caption random (1)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
