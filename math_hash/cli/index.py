"""`math-hash index`: put a folder of codes into an index."""

import argparse
import os
from pathlib import Path

from math_hash.cli.flags import new_parser
from math_hash.errors import InputError

_HELP = """\
Put codes into an index: a folder, Milvus or PostgreSQL. Codes whose ids are already in the index are refused.

  math-hash index photos.codes --output photos.index
  math-hash index photos.codes --output milvus://localhost:19530/photos
  math-hash index photos.codes --output "postgresql://me@localhost/album?table=photos"

A call that was killed is continued by the same call. With --update, rows with new ids are added and changed rows are
replaced; --prune also removes those that CODES lacks:

  math-hash index photos.codes --output photos.index --update --prune

Verify a folder, or keep what can be read of a damaged one:

  math-hash index --check photos.index
  math-hash index --repair photos.index
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "index", "put codes into an index", _HELP)
    parser.add_argument("codes", type=Path, nargs="?", help="folder that `math-hash encode` wrote")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", metavar="URI", help="a folder, milvus://... or postgresql://...")
    target.add_argument("--to", dest="output", help=argparse.SUPPRESS)
    target.add_argument("--check", metavar="URI", help="verify an index's rows, codes and snapshot")
    target.add_argument("--repair", metavar="URI", help="make an index anew from what can be read of it")
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")
    parser.add_argument("--update", action="store_true", help="add rows with new ids, and replace changed ones")
    parser.add_argument("--prune", action="store_true", help="with --update: remove rows whose ids are not in CODES")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Add all codes to the index, or bring it up to date with them, and save it; or check or repair one."""
    if flags.check or flags.repair:
        given = [name for name in ("codes", "bits", "update", "prune") if getattr(flags, name)]
        if given:
            raise InputError(f"`{given[0]}`: has no effect on --check and --repair; leave it out")
        _check(flags.check) if flags.check else _repair(flags.repair)
        return
    if flags.codes is None:
        raise InputError("index: needs CODES, the folder that `math-hash encode` wrote")
    from math_hash.retrieval import open_index
    from math_hash.retrieval.codes_folder import CodesFolder
    from math_hash.retrieval.filling import fill
    from math_hash.retrieval.update import update_to

    if flags.prune and not flags.update:
        raise InputError("--prune: removes rows when an index is updated; give --update too")
    folder = CodesFolder.open(flags.codes)
    if flags.bits is not None:
        folder = folder.with_bits(flags.bits)
    with open_index(flags.output, folder.config["k_bits"], folder.config["model"]) as index:
        progress, changes = os.isatty(2), None
        if flags.update:
            changes = update_to(index, folder, flags.prune, progress)
        else:
            fill(index, folder, progress)
        print(f"{index.uri}: {len(index)} codes of {index.k_bits} bits")
        if changes:
            print("{} added, {} replaced, {} removed".format(*changes))
        if index.structure is not None:
            print(f"structure of exact search: {index.structure}")
        if index.recall is not None:
            print(
                f"approximate search finds {index.recall:.4f} of the true 10 nearest; raise nprobe if that is too low"
            )


def _check(uri: str) -> None:
    from math_hash.retrieval.engines.embedded.repair import check

    problems = check(uri)
    for problem in problems:
        print(problem)
    if problems:
        raise InputError(f"{uri}: damaged; keep what can be read with `math-hash index --repair {uri}`")
    print(f"{uri}: whole")


def _repair(uri: str) -> None:
    from math_hash.data.rejected import first_few
    from math_hash.retrieval.engines.embedded.repair import repair

    kept, without_metadata, lost = repair(uri)
    print(f"{uri}: {kept} rows kept, {without_metadata} of them without metadata; the damaged folder is {uri}.damaged")
    if lost:
        print(f"{len(lost)} rows lost: {first_few(map(str, lost), 20)}")
