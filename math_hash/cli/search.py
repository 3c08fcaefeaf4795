"""`math-hash search`: search an index by words, a picture or a row; prints a table or JSON, or writes a page."""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from math_hash.cli.flags import DEVICE, add_model_flags, new_parser
from math_hash.errors import InputError
from math_hash.files import require_own_file, write_text
from math_hash.retrieval.client import MOST_RESULTS, Client
from math_hash.retrieval.filters import parse_filters
from math_hash.retrieval.ids import as_id
from math_hash.retrieval.results import Result, SearchResults
from math_hash.retrieval.searcher import CANDIDATES, RERANKS, EncodedQuery, Searcher

_HELP = """\
Search an index by words, by a picture, or by a row of it, which needs no model.

  math-hash search photos.index --model RUN --text "two dogs on a beach" --image-root photos --output results.html
  math-hash search photos.index --model RUN --image photo.jpg --radius 10
  math-hash search photos.index --id beach/7.jpg --filter "labels=dog|cat" --filter "year>=2015"
  math-hash search --server http://127.0.0.1:8000 --text "two dogs on a beach"
"""
# flags that have no effect in a search for a row, and in one by a server, and their defaults
_OF_MODEL: dict[str, Any] = {
    "model": None, "device": DEVICE, "precision": "auto", "bits": None, "rerank": "asymmetric", "codes": None,
    "candidates": CANDIDATES,
}  # fmt: skip
_OF_INDEX: dict[str, Any] = {"index": None, "image_root": None, **_OF_MODEL}


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "search", "search an index by words, a picture or a row", _HELP)
    parser.add_argument("index", nargs="?", metavar="URI", help="the index")
    parser.add_argument("--model", help="the model that made the codes, for --text and --image")
    parser.add_argument("--server", metavar="URL", help="ask the server of `math-hash serve`, instead of an index")
    parser.add_argument("--token", help="of the server (MATH_HASH_TOKEN)")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", help="words to search for")
    query.add_argument("--image", type=Path, help="picture to search for")
    query.add_argument("--id", help="row of the index to search for; without a model")
    parser.add_argument("--top-k", type=int, default=20, help="number of results (20)")
    parser.add_argument("--top", dest="top_k", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--radius", type=int, help="all rows within this Hamming distance instead")
    add_filter_flag(parser, "metadata that results must have")
    add_model_flags(parser)
    parser.add_argument("--bits", type=int, help="number of bits, if the index was encoded with --bits")
    add_rerank_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--output", type=Path, metavar="FILE", help="write a contact sheet that opens in a browser")
    form.add_argument("--html", dest="output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--image-root", type=Path, help="folder that image paths start from, for --output")
    parser.add_argument("--images", dest="image_root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def add_rerank_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how the candidates of a search are ordered."""
    parser.add_argument(
        "--rerank", choices=RERANKS, default="asymmetric",
        help="order of the candidates: by the query's continuous code and their bits (asymmetric, the default), by the "
        "continuous codes or encoder vectors in --codes, or by Hamming distance alone (none)",
    )  # fmt: skip
    parser.add_argument("--codes", type=Path, metavar="FOLDER", help="what `math-hash encode` wrote, for --rerank")
    parser.add_argument(
        "--candidates", type=int, default=CANDIDATES, help=f"number of candidates to rerank ({CANDIDATES})"
    )


def add_filter_flag(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add `--filter`, which `parse_filters` reads."""
    parser.add_argument(
        "--filter", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help=f'{meaning}, such as "labels=dog|cat" "year>=2015" "year=2015..2018" "labels!=cat"',
    )  # fmt: skip


def run(flags: argparse.Namespace) -> None:
    """Search, and print or write the results."""
    where = parse_filters(flags.filter)
    if flags.image and not flags.image.is_file():
        raise InputError(f"--image {flags.image}: no such picture")
    if flags.image_root and not flags.output:
        raise InputError("--image-root: is for the pictures of a contact sheet; give --output FILE too")
    if flags.output:
        from math_hash.retrieval.contact_sheet import BEGINNING

        require_own_file(flags.output, BEGINNING)
    client = _client(flags)
    results = _ask(client, flags, where) if client else _search(flags, where)
    if flags.json:
        ranked = [{"rank": rank, **vars(result)} for rank, result in enumerate(results, start=1)]
        print(json.dumps(ranked, ensure_ascii=False, indent=2))
    elif flags.output:
        from math_hash.retrieval.contact_sheet import SIDE, contact_sheet

        query = next(str(given) for given in (flags.text, flags.image, flags.id) if given is not None)
        write_text(flags.output, contact_sheet(query, results, partial(_picture, client, flags.image_root, SIDE)))
        print(f"{len(results)} results: {flags.output}")
    else:
        _print_table(results)
    for note in results.notes:
        print(f"note: {note}", file=sys.stderr)


def _client(flags: argparse.Namespace) -> Client | None:
    """The server to ask; None: an index is to be opened here.

    Raises:
        InputError: flags of the one are given to the other, or neither is named.
    """
    if not flags.server:
        if flags.token:
            raise InputError("--token: is of a server; give --server URL too")
        if not flags.index:
            raise InputError("nothing to search: give an index, or --server URL")
        if flags.id is not None:
            _refuse(flags, _OF_MODEL, "is for --text and --image; a row is searched for by its code")
        return None
    _refuse(flags, _OF_INDEX, "is of the server, and set where it is started; leave it out with --server")
    return Client(flags.server, flags.token or os.environ.get("MATH_HASH_TOKEN", ""))


def _refuse(flags: argparse.Namespace, defaults: dict[str, Any], reason: str) -> None:
    for name, default in defaults.items():
        if getattr(flags, name) != default:
            flag = "the index" if name == "index" else f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: {reason}")


def _ask(client: Client, flags: argparse.Namespace, where: dict[str, Any]) -> SearchResults:
    top_k = flags.top_k if flags.radius is None else MOST_RESULTS
    if flags.id is not None:
        answer = client.search_id(flags.id, top_k, flags.radius, where)
    elif flags.image:
        answer = client.search_image(flags.image, top_k, flags.radius, where)
    else:
        answer = client.search_text(flags.text, top_k, flags.radius, where)
    if flags.radius is not None and len(answer.results) == MOST_RESULTS:
        answer.notes.append(f"there may be more: a server returns at most {MOST_RESULTS} rows")
    return answer


def _search(flags: argparse.Namespace, where: dict[str, Any]) -> SearchResults:
    from math_hash.retrieval import open_index

    top_k = flags.top_k if flags.radius is None else None
    if flags.id is None and flags.model is None:
        raise InputError("--model: is missing; --text and --image need the model that made the codes")
    with open_index(flags.index, create=False) as index:
        if flags.id is not None:
            row = index.rows([as_id(flags.id, index.id_kind)])[0]
            if row is None:
                raise InputError(f"--id {flags.id}: {flags.index} has no such row")
            return Searcher(index, None).search(EncodedQuery(row[0][None]), top_k, flags.radius, where)
        from math_hash.models.device import choose_device
        from math_hash.models.load import load_model

        model = load_model(flags.model, choose_device(flags.device), flags.precision)
        if flags.bits is not None:
            model = model.with_bits(flags.bits)
        searcher = Searcher(index, model, flags.rerank, flags.codes, flags.candidates)
        query = searcher.query("image", flags.image) if flags.image else searcher.query("text", flags.text)
        return searcher.search(query, top_k, flags.radius, where)


def _print_table(results: SearchResults) -> None:
    if not results:
        print("nothing found")
        return
    width = max(len(str(result.id)) for result in results)
    print(f"rank  distance  {'id':{width}}  labels | text")
    for rank, result in enumerate(results, start=1):
        words = " | ".join(part for part in (result.labels, result.text) if part)
        print(f"{rank:4d}  {result.distance:8d}  {result.id!s:{width}}  {words[:100]}")


def _picture(client: Client | None, root: Path | None, side: int, result: Result) -> bytes | None:
    """The picture of a row, as JPEG: from the server, or from below the folder of the pictures."""
    if client:
        return client.picture(result.id, side)
    from math_hash.retrieval.thumbnail import thumbnail

    return thumbnail(root, result.metadata, side) if root else None
