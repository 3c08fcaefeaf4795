"""`math-hash index`: put a folder of codes into an index."""

import argparse
import itertools
import os
from pathlib import Path

from math_hash.errors import InputError

_BATCH = 50_000  # rows added at once

_HELP = """\
Put codes into an index: a folder, Milvus or PostgreSQL. Codes whose ids are already in the index are refused.

  math-hash index photos.codes --output photos.index
  math-hash index photos.codes --output milvus://localhost:19530/photos
  math-hash index photos.codes --output "postgresql://me@localhost/album?table=photos"

With --update, rows with new ids are added and changed rows are replaced; --prune also removes those that CODES lacks:

  math-hash index photos.codes --output photos.index --update --prune
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = commands.add_parser(
        "index",
        help="put codes into an index",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("codes", type=Path, help="folder that `math-hash encode` wrote")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--output", metavar="URI", help="a folder, milvus://... or postgresql://...")
    output.add_argument("--to", dest="output", help=argparse.SUPPRESS)
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")
    parser.add_argument("--update", action="store_true", help="add rows with new ids, and replace changed ones")
    parser.add_argument("--prune", action="store_true", help="with --update: remove rows whose ids are not in CODES")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Add all codes to the index, or bring it up to date with them, and save it."""
    from tqdm import tqdm

    from math_hash.retrieval import open_index
    from math_hash.retrieval.codes_folder import CodesFolder
    from math_hash.retrieval.update import update

    if flags.prune and not flags.update:
        raise InputError("--prune: removes rows when an index is updated; give --update too")
    folder = CodesFolder.open(flags.codes)
    if flags.bits is not None:
        folder = folder.with_bits(flags.bits)
    with open_index(flags.output, folder.config["k_bits"], folder.config["model"]) as index:
        rows, start, added, replaced = folder.rows(), 0, 0, 0
        surplus = set(index.ids().tolist()) if flags.prune else set()
        bar = tqdm(total=folder.config["count"], desc="indexing", unit="code", disable=not os.isatty(2))
        while block := list(itertools.islice(rows, _BATCH)):
            ids, metadata = zip(*block, strict=True)
            codes = folder.codes[start : start + len(block)]
            if flags.update:
                changes = update(index, ids, codes, metadata)
                added, replaced = added + changes[0], replaced + changes[1]
            else:
                index.add(ids, codes, metadata)
            surplus.difference_update(ids)
            start += len(block)
            bar.update(len(block))
        bar.close()
        index.delete(list(surplus))
        index.save()
        print(f"{index.uri}: {len(index)} codes of {index.k_bits} bits")
        if flags.update:
            print(f"{added} added, {replaced} replaced, {len(surplus)} removed")
        if index.structure is not None:
            print(f"structure of exact search: {index.structure}")
        if index.recall is not None:
            print(
                f"approximate search finds {index.recall:.4f} of the true 10 nearest; raise nprobe if that is too low"
            )
