"""Build a dataset from your own collection, dataset/mine.

From a table with the columns image, text and labels (CSV, TSV or JSON Lines; other names: --image-column ...):

  math-hash dataset make custom pictures.csv --separator "|"

From a folder of pictures, with a.txt beside a.jpg for its texts, and one folder per class for labels:

  math-hash dataset make custom PICTURES

From WebDataset tars, in which the pictures stay, or a folder that Hugging Face `datasets` saved:

  math-hash dataset make custom shards/
  math-hash dataset make custom "shards/{000..099}.tar"

Several rows of a table may name one picture: they become one row with all their texts.
Texts and labels may be missing in some rows, or altogether. Then: math-hash train --dataset mine
"""

import argparse
import io
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from math_hash.data.building.arguments import add_column_flags, tool_parser
from math_hash.data.building.build import build_dataset
from math_hash.data.building.source import Source, label_matrix
from math_hash.data.collection import read_collection
from math_hash.data.records import Columns, Record
from math_hash.data.same_picture import as_one, picture_key
from math_hash.data.text_files import read_lines
from math_hash.errors import InputError, exit_code
from math_hash.protocols import OWN


def read_records(records: Iterable[Record], tar: Path) -> tuple[list[Record], list[tuple[str, str]]]:
    """Separate usable records from others; pictures that are not files go into a new tar file.

    Returns:
        The usable records, all rows of a picture in one; for each of the others, where it stood and what is wrong.
    """
    kept: dict[bytes | str, list[Record]] = {}
    rejected: list[tuple[str, str]] = []
    archive: tarfile.TarFile | None = None
    with ExitStack() as stack:
        for record in tqdm(records, desc="reading", unit="row", disable=not os.isatty(2)):
            record.image = record.image.replace("\\", "/")
            if not record.problem and os.path.normpath(record.image).startswith(".."):
                record.problem = f"{record.image} leads out of the folder of the pictures"
            if record.problem:
                rejected.append((record.where, record.problem))
                continue
            rows = kept.setdefault(picture_key(record), [])
            if record.content is not None and not rows:
                if archive is None:
                    tar.parent.mkdir(parents=True)
                    archive = stack.enter_context(tarfile.open(tar, "w"))
                _pack(record, record.content, archive, tar.name, len(kept) - 1)
            record.content = None
            rows.append(record)
    return [as_one(rows) for rows in kept.values()], rejected


def _pack(record: Record, content: bytes, archive: tarfile.TarFile, tar_name: str, number: int) -> None:
    member = tarfile.TarInfo(f"{number:08d}{Path(record.image).suffix}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    start = archive.offset - -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    record.image, record.member, record.content = f"{tar_name}/{member.name}", (start, member.size), None


def label_names(records: Sequence[Record], vocabulary: Path | None, min_count: int) -> list[str]:
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


def build(flags: argparse.Namespace) -> None:
    """Read the collection and write the dataset's folder.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: nothing is usable, or a label is not in the vocabulary.
    """
    output: Path = flags.output
    scratch = output.with_name(f".{output.name}.images.{os.getpid()}.new")
    try:
        source = _read_source(flags, scratch)
        build_dataset(
            source,
            output,
            protocol=OWN,
            check=flags.check,
            allow_unlabelled=True,
            caption=flags.caption,
            seed=flags.seed,
            details={"made_from": Path(flags.source).name},
        )
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}; choose another `output`") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not source.label_names:
        print("note: no row has a label; training will use a method that needs none")
    if not any(source.texts):
        print("note: no row has a text; give some, or use --labels-as-text, to search from words")


def _read_source(flags: argparse.Namespace, scratch: Path) -> Source:
    """The usable rows of the collection; pictures that are not files go into the folder `scratch`."""
    columns = Columns(flags.image_column, flags.text_column, flags.label_column, flags.separator)
    root, all_records = read_collection(flags.source, columns)
    records, rejected = read_records(all_records, scratch / "images.tar")
    if not records:
        reason = f"{rejected[0][0]}: {rejected[0][1]}" if rejected else "it is empty"
        raise InputError(f"{flags.source}: holds no usable row ({reason})")
    names = label_names(records, flags.vocabulary, flags.min_count)
    rows = [record.labels or [] for record in records]
    if not flags.vocabulary:
        rows = [[name for name in row if name in names] for row in rows]
    texts = [
        record.texts or ([", ".join(row)] if row and flags.labels_as_text else [])
        for record, row in zip(records, rows, strict=True)
    ]
    members = np.array([record.member for record in records], np.int64)
    return Source(
        scratch if scratch.exists() else flags.image_root or root,
        [record.image for record in records],
        texts,
        label_matrix(rows, names, lambda row: records[row].where),
        names,
        rejected,
        members if (members >= 0).any() else None,
        carried=scratch.exists(),
    )


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    parser = tool_parser(prog, __doc__, "dataset/mine")
    parser.add_argument("source", help="a table, a folder of pictures, tars (also as a URL), or a saved dataset")
    parser.add_argument("--image-root", type=Path, help="the folder that a table's paths start from (its own)")
    parser.add_argument("--images", dest="image_root", type=Path, help=argparse.SUPPRESS)
    add_column_flags(parser)
    parser.add_argument("--labels-as-text", action="store_true", help="a row without a text gets its label names")
    parser.add_argument(
        "--caption", choices=("first", "random"), default="first", help="of several texts, the one that is used (first)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of --caption random (1)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
