"""`math-hash search`: search an index by words or by a picture; prints a table or JSON, or writes a page."""

import argparse
import base64
import html
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from math_hash.cli.flags import add_precision
from math_hash.errors import InputError
from math_hash.files import parse_json, write_text
from math_hash.retrieval.searcher import CANDIDATES, RERANKS, Answer, Result, Searcher

_HELP = """\
Search an index by words or by a picture.

  math-hash search photos.index --model RUN --text "two dogs on a beach" --images photos --html results.html
  math-hash search photos.index --model RUN --image photo.jpg --radius 10 --filter label=dog
"""
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:1rem}main{display:grid;gap:12px;"
    "grid-template-columns:repeat(auto-fill,minmax(160px,1fr))}figure{margin:0;border:1px solid #8885;"
    "border-radius:8px;overflow:hidden}img{width:100%;aspect-ratio:1;object-fit:cover}figcaption{padding:6px 8px;"
    "font-size:13px;overflow-wrap:anywhere}"
)


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
    answer = _search(flags, where)
    results = answer.results
    if flags.json:
        ranked = [{"rank": rank, **vars(result)} for rank, result in enumerate(results, start=1)]
        print(json.dumps(ranked, ensure_ascii=False, indent=2))
    elif flags.html:
        query = flags.text if flags.text is not None else str(flags.image)
        _write_sheet(flags.html, query, answer, flags.images)
        print(f"{len(results)} results: {flags.html}")
    else:
        _print_table(results)
    for note in answer.notes:
        print(f"note: {note}", file=sys.stderr)


def _condition(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--filter {text}: expected NAME=VALUE, such as label=dog")
    try:
        parsed = parse_json(value)
    except ValueError:
        return name, value
    return name, parsed if isinstance(parsed, str | int | float | bool) else value


def _search(flags: argparse.Namespace, where: dict[str, Any]) -> Answer:
    from math_hash.models.load import load_model
    from math_hash.retrieval import open_index

    with open_index(flags.index, create=False) as index:
        model = load_model(flags.model, precision=flags.precision)
        if flags.bits is not None:
            model = model.with_bits(flags.bits)
        searcher = Searcher(index, model, flags.rerank, flags.codes, flags.candidates)
        query = searcher.query("image", flags.image) if flags.image else searcher.query("text", flags.text)
        return searcher.search(query, flags.top if flags.radius is None else None, flags.radius, where)


def _print_table(results: Sequence[Result]) -> None:
    if not results:
        print("nothing found")
        return
    width = max(len(str(result.id)) for result in results)
    print(f"rank  distance  {'id':{width}}  labels | text")
    for rank, result in enumerate(results, start=1):
        words = " | ".join(part for part in (_labels(result), _text(result)) if part)
        print(f"{rank:4d}  {result.distance:8d}  {result.id!s:{width}}  {words[:100]}")


def _labels(result: Result) -> str:
    labels = result.metadata.get("label") or []
    return ", ".join(labels) if isinstance(labels, list) else str(labels)


def _text(result: Result) -> str:
    return str(result.metadata.get("text") or "")


def _write_sheet(path: Path, query: str, answer: Answer, images: Path | None) -> None:
    from math_hash.retrieval.thumbnail import thumbnail

    cells = []
    for result in answer.results:
        picture = thumbnail(images, result.metadata, 240) if images else None
        content = base64.b64encode(picture or b"").decode()
        image = f'<img alt="" src="data:image/jpeg;base64,{content}">' if picture else ""
        words = html.escape(_text(result)[:120] or str(result.id))
        cells.append(
            f"<figure>{image}<figcaption><b>distance {result.distance}</b> {html.escape(_labels(result))}<br>{words}"
            "</figcaption></figure>"
        )
    title = f"<title>{html.escape(query)}</title>"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{_STYLE}</style>'
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in answer.notes)
    write_text(path, f"{head}<h1>{html.escape(query)}</h1>{notes}<main>{''.join(cells)}</main></html>\n")
