"""`math-hash index`: put a folder of codes into an index."""

import argparse
import itertools
import os
from pathlib import Path

_BATCH = 50_000  # rows added at once

_HELP = """\
Put codes into an index: a folder, Milvus or PostgreSQL. Codes whose ids are already in the index are refused.

  math-hash index photos.codes --to photos.index
  math-hash index photos.codes --to milvus://localhost:19530/photos
  math-hash index photos.codes --to "postgresql://me@localhost/album?table=photos"
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
    parser.add_argument("--to", required=True, metavar="URI", help="a folder, milvus://... or postgresql://...")
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Add all codes to the index, and save it."""
    from tqdm import tqdm

    from math_hash.retrieval import open_index
    from math_hash.retrieval.codes_folder import CodesFolder

    folder = CodesFolder.open(flags.codes)
    if flags.bits is not None:
        folder = folder.with_bits(flags.bits)
    with open_index(flags.to, folder.config["k_bits"], folder.config["model"]) as index:
        rows, start = folder.rows(), 0
        bar = tqdm(total=folder.config["count"], desc="indexing", unit="code", disable=not os.isatty(2))
        while block := list(itertools.islice(rows, _BATCH)):
            ids, metadata = zip(*block, strict=True)
            index.add(ids, folder.codes[start : start + len(block)], metadata)
            start += len(block)
            bar.update(len(block))
        bar.close()
        index.save()
        print(f"{index.uri}: {len(index)} codes of {index.k_bits} bits")
        if index.structure is not None:
            print(f"structure of exact search: {index.structure}")
        if index.recall is not None:
            print(
                f"approximate search finds {index.recall:.4f} of the true 10 nearest; raise nprobe if that is too low"
            )
