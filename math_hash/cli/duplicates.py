"""`math-hash duplicates`: near duplicates, leaks and mismatches among codes; needs no model and no PyTorch."""

import argparse
import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from math_hash.cli.flags import new_parser
from math_hash.errors import InputError
from math_hash.files import require_own_file, write_text

if TYPE_CHECKING:
    import numpy as np

    from math_hash.hamming.join import Pairs
    from math_hash.retrieval.stored_codes import StoredCodes

_HELP = """\
Find near duplicates: rows whose codes differ in few bits. A collection is an index, or a folder that `math-hash encode`
wrote. It prints groups of rows, the largest group first, each row with its distance to the group's first row:

  math-hash duplicates photos.index --radius 2

or pairs of rows, each with its distance:

  math-hash duplicates photos.codes --with others.codes         # near duplicates in another collection
  math-hash duplicates photos.codes --leaks dataset/mine        # queries that are near duplicates of training rows
  math-hash duplicates photos.codes --mismatches texts.codes    # images that fit their own texts least
"""
_MOST_PAIRS = 10_000_000
_SHOWN = 20  # groups or pairs in a table, and rows per group

Record = dict[str, Any]  # a line of the output: a row of a group, or a pair of rows


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "duplicates", "find near duplicates, leaks and mismatches among codes", _HELP)
    parser.add_argument("collection", help="an index's URI, or a folder of codes")
    parser.add_argument("--radius", type=int, help="the most bits in which near duplicates differ (2)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--with", dest="other", metavar="OTHER", help="pairs with the rows of another collection instead")
    what.add_argument(
        "--leaks",
        type=Path,
        metavar="DATASET",
        help="pairs of a query and a training row of this dataset folder, whose codes the collection holds, instead",
    )
    what.add_argument(
        "--mismatches",
        metavar="TEXTS",
        help="rows of two collections with the same ids, the most distant first, instead",
    )
    for name, text in (("query", "queries"), ("train", "training rows")):
        parser.add_argument(
            f"--{name}-num", type=int, help=f"number of {text}, for --leaks (of the dataset's protocol)"
        )
    parser.add_argument("--split-seed", type=int, help="seed of the split, for --leaks (1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON: a list with an object per row or pair")
    form.add_argument("--output", type=Path, metavar="FILE", help="write a CSV file")
    parser.add_argument("--limit", type=int, help="the most groups or pairs (20 in a table, otherwise all)")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Find, and print or write."""
    from math_hash.retrieval.stored_codes import StoredCodes

    if flags.limit is not None and flags.limit < 1:
        raise InputError(f"--limit {flags.limit}; expected 1 or more")
    if flags.mismatches and flags.radius is not None:
        raise InputError("--radius: --mismatches sorts all rows by distance; leave it out")
    for name in ("query_num", "train_num", "split_seed"):
        if getattr(flags, name) is not None and not flags.leaks:
            raise InputError(f"--{name.replace('_', '-')}: is for --leaks DATASET, which tells which rows are queries")
    if flags.output:
        require_own_file(flags.output, b"group,size,distance,", b"distance")
    limit = flags.limit or (None if flags.json or flags.output else _SHOWN)
    radius = 2 if flags.radius is None else flags.radius
    with ExitStack() as opened:
        collection = StoredCodes.open(flags.collection, opened)
        if flags.other:
            records, summary = _near_pairs(collection, StoredCodes.open(flags.other, opened), radius, limit)
        elif flags.leaks:
            records, summary = _leaks(collection, flags, radius, limit)
        elif flags.mismatches:
            records, summary = _mismatches(collection, StoredCodes.open(flags.mismatches, opened), limit)
        else:
            records, summary = _groups(collection, radius, limit)
    if flags.json:
        print(json.dumps(records, ensure_ascii=False, indent=2))
    elif flags.output:
        _write_csv(flags.output, records)
        print(f"{summary}: {flags.output}")
    else:
        _print_table(records)
        print(summary)


def _described(row: tuple[Any, dict[str, Any]], prefix: str = "") -> Record:
    row_id, metadata = row
    columns = {"id": row_id, "image": metadata.get("image", ""), "text": metadata.get("text", "")}
    return {prefix + name: value for name, value in columns.items()}


def _groups(collection: "StoredCodes", radius: int, limit: int | None) -> tuple[list[Record], str]:
    import numpy as np

    from math_hash.hamming.groups import near_duplicates

    groups = near_duplicates(collection.codes, collection.k_bits, radius, progress=os.isatty(2))
    shown = groups[:limit]
    rows = collection.rows(np.concatenate([places for places, _ in shown])) if shown else {}
    records = [
        {"group": number, "size": len(places), "distance": distance, **_described(rows[place])}
        for number, (places, distances) in enumerate(shown, start=1)
        for place, distance in zip(places.tolist(), distances.tolist(), strict=True)
    ]
    grouped = sum(len(places) for places, _ in groups)
    return records, f"{len(groups)} groups with {grouped} of {len(collection.codes)} rows within radius {radius}"


def _near_pairs(one: "StoredCodes", other: "StoredCodes", radius: int, limit: int | None) -> tuple[list[Record], str]:
    one.require_same_codes(other)
    pairs = _sorted_pairs(one.codes, other.codes, one.k_bits, radius)
    return _pair_records(pairs, one, other, limit), f"{len(pairs.first)} pairs within radius {radius}"


def _leaks(
    collection: "StoredCodes", flags: argparse.Namespace, radius: int, limit: int | None
) -> tuple[list[Record], str]:
    import numpy as np

    from math_hash.config import make_config
    from math_hash.data.split import split_rows
    from math_hash.mat import read_strings

    folder = flags.leaks.resolve()
    given = {name: getattr(flags, name) for name in ("query_num", "train_num", "split_seed")}
    config = make_config({"dataset_root": str(folder.parent), "dataset": folder.name, **given})
    images = read_strings(folder / config.index_file, "index")
    split = split_rows(len(images), config.query_num, config.train_num, split_seed=config.split_seed)
    numbers = _rows_of_dataset(collection, images, folder)
    queries, train = (np.flatnonzero(np.isin(numbers, rows)) for rows in (split.query, split.train))
    pairs = _sorted_pairs(collection.codes[queries], collection.codes[train], collection.k_bits, radius)
    pairs = pairs._replace(first=queries[pairs.first], second=train[pairs.second])
    summary = (
        f"{len(pairs.first)} pairs of a query and a training row within radius {radius}: "
        f"{len(np.unique(pairs.first))} of {len(queries)} queries, {len(np.unique(pairs.second))} of {len(train)} "
        "training rows"
    )
    return _pair_records(pairs, collection, collection, limit), summary


def _rows_of_dataset(collection: "StoredCodes", images: list[str], folder: Path) -> "np.ndarray":
    """The row number in the dataset of each row of the collection, int64 (n,); unreadable pictures have no codes."""
    import numpy as np

    numbers, row = [], 0
    for row_id in collection.ids():
        while row < len(images) and images[row] != row_id:
            row += 1
        if row == len(images):
            raise InputError(
                f"{collection.name}: id {row_id!r} is no row of {folder}, or not in its order; expected the codes of "
                "`math-hash encode MODEL DATASET`"
            )
        numbers.append(row)
        row += 1
    return np.array(numbers, np.int64)


def _mismatches(one: "StoredCodes", other: "StoredCodes", limit: int | None) -> tuple[list[Record], str]:
    import numpy as np

    from math_hash.hamming.codes import as_words
    from math_hash.hamming.join import Pairs

    one.require_same_codes(other)
    place_of = {row_id: place for place, row_id in enumerate(other.ids())}
    both = [(place, place_of[row_id]) for place, row_id in enumerate(one.ids()) if row_id in place_of]
    if not both:
        raise InputError(f"{other.name}: has no id in common with {one.name}; expected codes of the same rows")
    first, second = np.array(both).T
    distances = np.bitwise_count(as_words(one.codes[first]) ^ as_words(other.codes[second])).sum(axis=1, dtype=np.int64)
    order = np.argsort(-distances, kind="stable")
    pairs = Pairs(first[order], second[order], distances[order])
    summary = f"{len(both)} rows in both; distances have the median {np.median(distances):g} of {one.k_bits} bits"
    return _pair_records(pairs, one, other, limit), summary


def _sorted_pairs(codes: "np.ndarray", others: "np.ndarray", k_bits: int, radius: int) -> "Pairs":
    """All pairs within the radius, sorted by distance, then by row."""
    import numpy as np

    from math_hash.hamming.join import Pairs, pairs_between

    chunks, count = [Pairs(*np.empty((3, 0), np.int64))], 0
    for chunk in pairs_between(codes, others, k_bits, radius, progress=os.isatty(2)):
        chunks.append(chunk)
        count += len(chunk.first)
        if count > _MOST_PAIRS:
            raise InputError(f"--radius {radius}: more than {_MOST_PAIRS} pairs; choose a smaller one")
    first, second, distances = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    order = np.lexsort((second, first, distances))
    return Pairs(first[order], second[order], distances[order])


def _pair_records(pairs: "Pairs", one: "StoredCodes", other: "StoredCodes", limit: int | None) -> list[Record]:
    first, second, distances = (values[:limit] for values in pairs)
    rows, other_rows = one.rows(first), other.rows(second)
    return [
        {"distance": distance, **_described(rows[place]), **_described(other_rows[match], "other_")}
        for place, match, distance in zip(first.tolist(), second.tolist(), distances.tolist(), strict=True)
    ]


def _write_csv(path: Path, records: Sequence[Record]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else ["distance"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(path, text.getvalue())


def _print_table(records: Sequence[Record]) -> None:
    width = max(
        (len(str(record[name])) for record in records for name in ("id", "other_id") if name in record), default=0
    )
    for _, group in groupby(records, lambda record: record.get("group")):
        rows = list(group)
        is_group = "group" in rows[0]
        if is_group:
            print(f"group {rows[0]['group']}, {len(rows)} rows")
        for record in rows[: _SHOWN if is_group else None]:
            row = _shown(record, "", width)
            other = row if is_group else _shown(record, "other_", width)
            print(f"{record['distance']:8d}  {row}")
            if other != row:
                print(f"{'':8}  {other}")
        if len(rows) > _SHOWN and is_group:
            print(f"{'':8}  and {len(rows) - _SHOWN} more")


def _shown(record: Record, prefix: str, width: int) -> str:
    row_id, image, text = (str(record[prefix + name]) for name in ("id", "image", "text"))
    words = " | ".join(part for part in (image if image != row_id else "", text) if part)
    return f"{row_id:{width}}  {words[:100]}".rstrip()
