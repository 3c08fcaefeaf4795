"""`math-hash delete`: remove rows from an index."""

import argparse
import sys

from math_hash.cli.flags import new_parser
from math_hash.cli.search import add_filter_flag
from math_hash.errors import InputError

_HELP = """\
Remove rows from an index, by their ids or by their metadata.

  math-hash delete photos.index beach.jpg street.jpg
  math-hash delete photos.index --filter label=dog
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "delete", "remove rows from an index", _HELP)
    parser.add_argument("index", metavar="URI", help="the index")
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of the rows to remove")
    add_filter_flag(parser, "metadata of the rows to remove")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Remove the rows, and save the index."""
    from math_hash.retrieval import open_index
    from math_hash.retrieval.filters import parse_filters
    from math_hash.retrieval.ids import as_id

    if bool(flags.ids) == bool(flags.filter):
        raise InputError("math-hash delete: expected ids or --filter, one of them")
    with open_index(flags.index, create=False) as index:
        if flags.filter:
            ids = index.ids(parse_filters(flags.filter)).tolist()
        else:
            ids = [as_id(name, index.id_kind) for name in dict.fromkeys(flags.ids)]
        absent = [row_id for row_id, row in zip(ids, index.rows(ids), strict=True) if row is None]
        print(f"{index.uri}: {index.delete(ids)} rows deleted, {len(index)} left")
        index.save()
    for row_id in absent:
        print(f"note: {row_id}: no row has that id", file=sys.stderr)
