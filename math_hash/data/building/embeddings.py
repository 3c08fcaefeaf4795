"""Build a dataset from embeddings of pictures and of texts, for training without an encoder: dataset/mine.

From a folder that clip-retrieval wrote, with img_emb/, text_emb/ and metadata/:

  math-hash dataset make embeddings embeddings/ --label-column tags

From parquet files with two columns of vectors:

  math-hash dataset make embeddings rows.parquet --image-vector-column image_emb --text-vector-column text_emb

Then: math-hash train --dataset mine --features dataset/mine/features --method DSPH
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from math_hash.data.building.arguments import add_column_flags
from math_hash.data.building.custom import label_names
from math_hash.data.building.source import label_matrix
from math_hash.data.building.summary import summarize, summary_text
from math_hash.data.embeddings import Embeddings, open_embeddings
from math_hash.data.folder import write_dataset
from math_hash.data.records import Columns, Record
from math_hash.data.rejected import REJECTED, write_rejected
from math_hash.data.split import own_split
from math_hash.errors import InputError, exit_code
from math_hash.protocols import OWN

FEATURES = "features"  # the folder of features in the dataset's folder


def build(flags: argparse.Namespace) -> None:
    """Write the dataset's folder, with the vectors in `features/`; rows with an unusable vector are left out.

    Args:
        flags: what `main` parsed.

    Raises:
        InputError: the embeddings cannot be read, or those of pictures and texts differ in number; no row is usable; a
            label is not in the vocabulary.
    """
    columns = Columns(flags.image_column, flags.text_column, flags.label_column, flags.separator)
    named = {"image": flags.image_vector_column, "text": flags.text_vector_column}
    streams = {
        stream: open_embeddings(flags.source, stream, replace(columns, vector=vectors))
        for stream, vectors in named.items()
    }
    if streams["image"].rows != streams["text"].rows:
        counts = " and ".join(f"{embeddings.rows} of {stream}s" for stream, embeddings in streams.items())
        raise InputError(f"{flags.source}: holds vectors {counts}; training needs both of each row")
    kept, rejected = _usable(streams)
    if not kept:
        raise InputError(f"{flags.source}: holds no usable row{f' ({rejected[0][1]})' if rejected else ''}")
    records = list(kept.values())
    names = label_names(records, flags.vocabulary, flags.min_count)
    rows = [record.labels or [] for record in records]
    if not flags.vocabulary:
        rows = [[name for name in row if name in names] for row in rows]
    labels, texts = label_matrix(rows, names, lambda row: records[row].where), [record.texts for record in records]
    folder = write_dataset(
        flags.output,
        images=[record.image or record.id or record.where for record in records],
        captions=[row[0] if row else "" for row in texts],
        labels=labels,
        label_names=names,
        protocol=OWN,
        texts=texts if any(len(row) > 1 for row in texts) else None,
        allow_unlabelled=True,
        add_files=partial(_add_files, streams=streams, kept=kept, rejected=rejected),
        details={
            "rejected_rows": len(rejected),
            "duplicates": [],
            "checked": "none",
            "summary": summarize(labels, names, texts),
            "made_from": flags.source.name,
            "split": own_split(len(records)),
        },
    )
    print(summary_text(folder))


def _pairs(streams: Mapping[str, Embeddings]) -> Iterator[tuple[Record, Record]]:
    return zip(streams["image"].records(), streams["text"].records(), strict=True)


def _usable(streams: Mapping[str, Embeddings]) -> tuple[dict[int, Record], list[tuple[str, str]]]:
    """The rows with two usable vectors, number -> record without its vector; where the others are and what is wrong."""
    kept: dict[int, Record] = {}
    rejected: list[tuple[str, str]] = []
    for number, (image, text) in enumerate(_pairs(streams)):
        if problem := image.problem or text.problem:
            rejected.append(((image if image.problem else text).where, problem))
        else:
            kept[number] = replace(image, vector=None)
    return kept, rejected


def _add_files(
    folder: Path, streams: Mapping[str, Embeddings], kept: Mapping[int, Record], rejected: list[tuple[str, str]]
) -> None:
    """Write `rejected.tsv`, and the vectors of the rows that are kept, as a folder of features."""
    write_rejected(folder / REJECTED, rejected)
    (folder / FEATURES).mkdir()
    for stream, embeddings in streams.items():
        with open(folder / FEATURES / f"{stream}_pooled.npy", "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(kept), embeddings.width)}
            np.lib.format.write_array_header_1_0(file, header)
            for number, record in enumerate(embeddings.records()):
                if number in kept and record.vector is not None:
                    file.write(record.vector.astype("<f4").tobytes())


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of clip-retrieval, or parquet files")
    parser.add_argument("--output", type=Path, default=Path("dataset/mine"), help="folder to write (dataset/mine)")
    parser.add_argument("--image-vector-column", default="", help="in parquet files, column of the pictures' vectors")
    parser.add_argument("--text-vector-column", default="", help="in parquet files, column of the texts' vectors")
    for stream in ("image", "text"):
        parser.add_argument(f"--{stream}-vectors", dest=f"{stream}_vector_column", help=argparse.SUPPRESS)
    add_column_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))
