"""Build a dataset from your own collection, dataset/mine.

From a table with the columns image, text and labels (CSV, TSV or JSON Lines; other names: --image-column ...):

  python tools/make_datasets/make_custom.py pictures.csv --separator "|"

From a folder of pictures, with a.txt beside a.jpg for its texts, and a folder a class for labels:

  python tools/make_datasets/make_custom.py PICTURES

From WebDataset tars, in which the pictures stay, or a folder that Hugging Face `datasets` saved:

  python tools/make_datasets/make_custom.py shards/

Texts and labels may be missing in some rows, or altogether. Then: math-hash train --dataset mine
"""

import argparse
import io
import os
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from math_hash.data.building.build import Source, build_dataset, label_matrix, tool_parser
from math_hash.data.building.lists import read_lines
from math_hash.data.collection import Columns, Record, read_collection
from math_hash.errors import InputError, exit_code
from math_hash.protocols import OWN


def read_records(records: Iterator[Record], tar: Path) -> tuple[list[Record], list[tuple[str, str]]]:
    """Tell usable records from others; pictures that are no files are put into a tar file.

    Returns:
        The usable records; of the others, where they stood and what is wrong.
    """
    kept, rejected, archive = [], [], None
    with ExitStack() as stack:
        for record in tqdm(records, desc="reading", unit="row", disable=not os.isatty(2)):
            record.image = record.image.replace("\\", "/")
            if not record.problem and os.path.normpath(record.image).startswith(".."):
                record.problem = f"{record.image} leads out of the folder of the pictures"
            if record.problem:
                rejected.append((record.where, record.problem))
                continue
            if record.content is not None:
                if archive is None:
                    tar.parent.mkdir(parents=True)
                    archive = stack.enter_context(tarfile.open(tar, "w"))
                _pack(record, archive, len(kept))
            kept.append(record)
    return kept, rejected


def _pack(record: Record, archive: tarfile.TarFile, number: int) -> None:
    member = tarfile.TarInfo(f"{number:08d}{Path(record.image).suffix}")
    member.size = len(record.content)
    archive.addfile(member, io.BytesIO(record.content))
    start = archive.offset - -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    record.image, record.member, record.content = f"{Path(archive.name).name}/{member.name}", (start, member.size), None


def label_names(records: list[Record], vocabulary: Path | None, min_count: int) -> list[str]:
    """The label columns: the lines of `vocabulary`, or all names that at least `min_count` rows have, sorted.

    Raises:
        InputError: `vocabulary` names a label twice, or cannot be read.
    """
    if vocabulary:
        names = [line.strip() for line in read_lines(vocabulary) if line.strip()]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InputError(f"{vocabulary}: names {twice[0]!r} twice; a label is one column")
        return names
    counts = Counter(name for record in records for name in set(record.labels or []))
    return sorted(name for name, count in counts.items() if count >= min_count)


def build(arguments: argparse.Namespace) -> None:
    """Read the collection and write the dataset's folder.

    Raises:
        InputError: nothing is usable, or a label is not in the vocabulary.
    """
    columns = Columns(arguments.image_column, arguments.text_column, arguments.label_column, arguments.separator)
    output: Path = arguments.output
    root, found = read_collection(arguments.source, columns)
    scratch = output.with_name(f".{output.name}.images.{os.getpid()}.new")
    try:
        records, rejected = read_records(found, scratch / "images.tar")
        if not records:
            reason = f"{rejected[0][0]}: {rejected[0][1]}" if rejected else "it is empty"
            raise InputError(f"{arguments.source}: holds no usable row ({reason})")
        names = label_names(records, arguments.vocabulary, arguments.min_count)
        rows = [record.labels or [] for record in records]
        if not arguments.vocabulary:
            rows = [[name for name in row if name in names] for row in rows]
        labels = label_matrix(rows, names, lambda row: records[row].where)
        texts = [
            record.texts or ([", ".join(row)] if row and arguments.labels_as_text else [])
            for record, row in zip(records, rows, strict=True)
        ]
        members = np.array([record.member for record in records], np.int64)
        source = Source(
            scratch if scratch.exists() else arguments.images or root,
            [record.image for record in records],
            texts,
            labels,
            names,
            rejected,
            members if (members >= 0).any() else None,
            carried=scratch.exists(),
        )
        build_dataset(
            source,
            output,
            protocol=OWN,
            check=arguments.check,
            allow_unlabelled=True,
            caption=arguments.caption,
            seed=arguments.seed,
            made_from=arguments.source.name,
        )
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}; choose another --output") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not names:
        print("note: no row has a label; training will use a method that needs none")
    if not any(texts):
        print("note: no row has a text; give some, or use --labels-as-text, to search from words")


def main() -> int:
    parser = tool_parser(__doc__, "dataset/mine")
    parser.add_argument("source", type=Path, help="a table, a folder of pictures, tars, or a saved dataset")
    parser.add_argument("--images", type=Path, help="what the paths of a table start from (default: its folder)")
    parser.add_argument("--image-column", default="image", help="column or key of the picture's path (image)")
    parser.add_argument("--text-column", default="text", help="column or key of the text or texts (text)")
    parser.add_argument("--label-column", default="labels", help="column or key of the labels (labels)")
    parser.add_argument("--separator", default=",", help="character between two labels (,)")
    parser.add_argument("--vocabulary", type=Path, help="file of the label names, one a line (default: all found)")
    parser.add_argument("--min-count", type=int, default=1, help="rows that a label must have to be kept (1)")
    parser.add_argument("--labels-as-text", action="store_true", help="a row without a text gets its label names")
    parser.add_argument(
        "--caption", choices=("first", "random"), default="first", help="of several texts, the one that is used (first)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of --caption random (1)")
    arguments = parser.parse_args()
    return exit_code(lambda: build(arguments))


if __name__ == "__main__":
    sys.exit(main())
