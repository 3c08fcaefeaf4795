"""`math-hash search`: search an index by words or by a picture; prints a table or JSON, or writes a page."""

import argparse
import html
import json
import sys
from pathlib import Path
from typing import Any

from math_hash.cli.flags import add_precision
from math_hash.errors import InputError
from math_hash.files import write_text
from math_hash.retrieval.results import SearchResults
from math_hash.retrieval.searcher import CANDIDATES, RERANKS, Searcher

_HELP = """\
Search an index by words or by a picture.

  math-hash search photos.index --model RUN --text "two dogs on a beach" --images photos --html results.html
  math-hash search photos.index --model RUN --image photo.jpg --radius 10 --filter label=dog
"""
_STYLE = "body{font:15px system-ui,sans-serif;margin:1rem}"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = commands.add_parser(
        "search",
        help="search an index by words or by a picture",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("index", metavar="URI", help="the index")
    parser.add_argument("--model", required=True, help="the model that made the codes")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", help="words to search for")
    query.add_argument("--image", type=Path, help="picture to search for")
    parser.add_argument("--top", type=int, default=20, help="number of results (20)")
    parser.add_argument("--radius", type=int, help="all rows within this Hamming distance instead")
    parser.add_argument("--filter", nargs="+", default=[], metavar="NAME=VALUE", help="metadata that results must have")
    add_precision(parser)
    parser.add_argument("--bits", type=int, help="number of bits, if the index was encoded with --bits")
    add_rerank_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=Path, metavar="FILE", help="write a contact sheet that opens in a browser")
    parser.add_argument("--images", type=Path, help="folder that image paths start from, for --html")
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


def run(flags: argparse.Namespace) -> None:
    """Search, and print or write the results."""
    where = dict(_condition(text) for text in flags.filter)
    if flags.image and not flags.image.is_file():
        raise InputError(f"--image {flags.image}: no such picture")
    results = _search(flags, where)
    if flags.json:
        ranked = [{"rank": rank, **vars(result)} for rank, result in enumerate(results, start=1)]
        print(json.dumps(ranked, ensure_ascii=False, indent=2))
    elif flags.html:
        query = flags.text if flags.text is not None else str(flags.image)
        _write_sheet(flags.html, query, results)
        print(f"{len(results)} results: {flags.html}")
    else:
        _print_table(results)
    for note in results.notes:
        print(f"note: {note}", file=sys.stderr)


def _condition(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--filter {text}: expected NAME=VALUE, such as label=dog")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    return name, parsed if isinstance(parsed, str | int | float | bool) else value


def _search(flags: argparse.Namespace, where: dict[str, Any]) -> SearchResults:
    from math_hash.models.load import load_model
    from math_hash.retrieval import open_index

    with open_index(flags.index, create=False, image_root=flags.images) as index:
        model = load_model(flags.model, precision=flags.precision)
        if flags.bits is not None:
            model = model.with_bits(flags.bits)
        searcher = Searcher(index, model, flags.rerank, flags.codes, flags.candidates)
        query = searcher.query("image", flags.image) if flags.image else searcher.query("text", flags.text)
        return searcher.search(query, flags.top if flags.radius is None else None, flags.radius, where)


def _print_table(results: SearchResults) -> None:
    if not results:
        print("nothing found")
        return
    width = max(len(str(result.id)) for result in results)
    print(f"rank  distance  {'id':{width}}  labels | text")
    for rank, result in enumerate(results, start=1):
        words = " | ".join(part for part in (result.labels, result.text) if part)
        print(f"{rank:4d}  {result.distance:8d}  {result.id!s:{width}}  {words[:100]}")


def _write_sheet(path: Path, query: str, results: SearchResults) -> None:
    title = html.escape(query)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    write_text(path, f"{head}<h1>{title}</h1>{results.as_html()}</html>\n")
