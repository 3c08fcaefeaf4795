"""`math-hash search`: search an index by words or by a picture; prints a table or JSON, or writes a page."""

import argparse
import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from math_hash.cli.flags import add_precision
from math_hash.errors import InputError
from math_hash.files import write_text

if TYPE_CHECKING:
    import numpy as np

    from math_hash.models.code_model import CodeModel

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
    parser.add_argument(
        "--rerank", type=Path, metavar="CODES", help="rerank candidates by the continuous codes in this folder"
    )
    parser.add_argument("--candidates", type=int, default=200, help="number of candidates to rerank (200)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=Path, metavar="FILE", help="write a contact sheet that opens in a browser")
    parser.add_argument("--images", type=Path, help="folder that image paths start from, for --html")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


@dataclass(frozen=True)
class Result:
    """One row that a search returned; rank 1 is the nearest."""

    rank: int
    id: int | str
    distance: int
    metadata: dict[str, Any]

    @property
    def labels(self) -> str:
        """Its labels, separated by commas."""
        labels = self.metadata.get("label") or []
        return ", ".join(labels) if isinstance(labels, list) else str(labels)

    @property
    def text(self) -> str:
        """Its text, or ""."""
        return str(self.metadata.get("text") or "")


def run(flags: argparse.Namespace) -> None:
    """Search, and print or write the results."""
    where = dict(_condition(text) for text in flags.filter)
    if flags.image and not flags.image.is_file():
        raise InputError(f"--image {flags.image}: no such picture")
    results = _search(flags, where)
    if flags.json:
        print(json.dumps([vars(result) for result in results], ensure_ascii=False, indent=2))
    elif flags.html:
        query = flags.text if flags.text is not None else str(flags.image)
        _write_sheet(flags.html, query, results, flags.images)
        print(f"{len(results)} results: {flags.html}")
    else:
        _print_table(results)


def _condition(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--filter {text}: expected NAME=VALUE, such as label=dog")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    return name, parsed if isinstance(parsed, str | int | float | bool) else value


def _search(flags: argparse.Namespace, where: dict[str, Any]) -> list[Result]:
    from math_hash.models.load import load_model
    from math_hash.retrieval import open_index
    from math_hash.retrieval.codes_folder import CodesFolder
    from math_hash.retrieval.rerank import Reranker

    with open_index(flags.index, create=False) as index:
        model = load_model(flags.model, precision=flags.precision)
        if flags.bits is not None:
            model = model.with_bits(flags.bits)
        index.require_model(model.fingerprint, model.k_bits)
        code = _encode(model, flags, "packed")
        if flags.radius is not None:
            [neighbors] = index.search_radius(code, flags.radius, where)
        elif flags.rerank:
            candidates = index.search(code, max(flags.candidates, flags.top), where)
            rerank = Reranker(CodesFolder.open(flags.rerank))
            [neighbors] = rerank(_encode(model, flags, "continuous"), candidates, flags.top)
        else:
            [neighbors] = index.search(code, flags.top, where)
        ids = neighbors.ids.tolist()
        metadata = [row[1] if row else {} for row in index.rows(ids)]
    ranked = zip(ids, neighbors.distances.tolist(), metadata, strict=True)
    return [Result(rank, *values) for rank, values in enumerate(ranked, start=1)]


def _encode(model: "CodeModel", flags: argparse.Namespace, output: Literal["packed", "continuous"]) -> "np.ndarray":
    if flags.text is not None:
        return model.encode_text([flags.text], output=output)
    return model.encode_image([flags.image], output=output)


def _print_table(results: Sequence[Result]) -> None:
    if not results:
        print("nothing found")
        return
    width = max(len(str(result.id)) for result in results)
    print(f"rank  distance  {'id':{width}}  labels | text")
    for result in results:
        words = " | ".join(part for part in (result.labels, result.text) if part)
        print(f"{result.rank:4d}  {result.distance:8d}  {result.id!s:{width}}  {words[:100]}")


def _write_sheet(path: Path, query: str, results: Sequence[Result], images: Path | None) -> None:
    from math_hash.retrieval.thumbnail import thumbnail

    cells = []
    for result in results:
        picture = thumbnail(images, result.metadata, 240) if images else None
        content = base64.b64encode(picture or b"").decode()
        image = f'<img alt="" src="data:image/jpeg;base64,{content}">' if picture else ""
        words = html.escape(result.text[:120] or str(result.id))
        cells.append(
            f"<figure>{image}<figcaption><b>distance {result.distance}</b> {html.escape(result.labels)}<br>{words}"
            "</figcaption></figure>"
        )
    title = f"<title>{html.escape(query)}</title>"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{_STYLE}</style>'
    write_text(path, f"{head}<h1>{html.escape(query)}</h1><main>{''.join(cells)}</main></html>\n")
