"""`math-hash dataset`: make a dataset folder, check one, or draw some of its rows."""

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from math_hash.cli.flags import new_parser

# modules of `math_hash.data.building`
_DATASETS = {
    "custom": "your own collection: a table, a folder of pictures, tars",
    "embeddings": "embeddings of pictures and of texts",
    "demo": "a small drawn dataset",
    "flickr25k": "MIRFlickr-25K",
    "nuswide": "NUS-WIDE",
    "coco": "MS COCO",
    "iaprtc12": "IAPR TC-12",
}
_HELP = """\
A dataset folder holds index.mat, caption.mat, label.mat and label_t.mat, in the MATH release's format.

  math-hash dataset make custom images.csv --output dataset/mine
  math-hash dataset check dataset/mine
  math-hash dataset show dataset/mine
"""
_ACTIONS = {
    "check": "Check a dataset folder: lengths, 0/1 labels, checksums, every picture. Prints a summary and writes "
    "it into manifest.json; unusable pictures are listed in rejected.tsv.",
    "show": "Draw rows of a dataset with their texts and labels, as one picture.",
}
_MAKE_HELP = "Make a dataset folder from a download or from your own collection. NAME is one of:\n\n"
_MAKE_HELP += "\n".join(f"  {name:12}{text}" for name, text in _DATASETS.items())
_MAKE_HELP += "\n\nThe arguments of one are listed by: math-hash dataset make NAME --help"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `math-hash`."""
    group = new_parser(commands, "dataset", "make a dataset folder, check one, or draw some of its rows", _HELP)
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = new_parser(actions, "make", "make a dataset folder", _MAKE_HELP)
    make.add_argument("name", choices=_DATASETS, metavar="NAME", help="which dataset")
    make.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    make.set_defaults(handler=make_dataset)
    for name, text in _ACTIONS.items():
        summary = text[0].lower() + re.split("[:,]", text[1:])[0]
        action = actions.add_parser(name, help=summary, description=text)
        action.add_argument("folder", type=Path, help="folder with index.mat, caption.mat, label.mat and label_t.mat")
        action.add_argument("--image-root", default="", help="folder that image paths start from (default: recorded)")
        action.add_argument("--allow-unlabelled", action="store_true", help="rows may lack a label")
        if name == "check":
            levels = "decode each picture, or only check that it exists (full)"
            action.add_argument("--check", choices=("full", "fast"), default="full", help=levels)
        else:
            action.add_argument("--output", type=Path, help="picture to write (default: <folder>.png)")
            action.add_argument("--rows", type=int, default=24, help="number of rows (24)")
            action.add_argument("--seed", type=int, default=1, help="seed of the choice of rows (1)")
        action.set_defaults(handler=run)


def make_dataset(flags: dict[str, Any]) -> None:
    """Make the named dataset with the tool's own arguments."""
    tool = import_module(f"math_hash.data.building.{flags['name']}")
    tool.build(tool.make_parser(f"math-hash dataset make {flags['name']}").parse_args(flags["arguments"]))


def run(flags: dict[str, Any]) -> None:
    """Check the folder, or draw some of its rows."""
    if flags["action"] == "check":
        from math_hash.data.building.check import check_dataset

        print(check_dataset(flags["folder"], flags["image_root"], flags["check"], flags["allow_unlabelled"]))
        return
    import numpy as np

    from math_hash.data import read_dataset
    from math_hash.data.figures import draw_rows

    folder = read_dataset(flags["folder"], image_root=flags["image_root"], allow_unlabelled=flags["allow_unlabelled"])
    rows = np.random.default_rng(flags["seed"]).permutation(len(folder))[: flags["rows"]]
    output = flags["output"] or Path(f"{flags['folder']}.png")
    draw_rows(output, folder, np.sort(rows))
    print(f"{len(rows)} of {len(folder)} rows: {output}")
