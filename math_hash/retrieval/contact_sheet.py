"""The results of a search as one HTML page that needs no other file: the pictures are inside it."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from math_hash.retrieval.searcher import Answer, Result

_HERE = Path(__file__).parent
SIDE = 320  # pixels of a picture's longer side
_NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")  # not allowed in HTML


def contact_sheet(query: str, answer: Answer, picture_of: Callable[[Result], bytes | None]) -> str:
    """The page, in the style of the search page.

    Args:
        query: what was searched for.
        picture_of: returns the picture of a row, a JPEG file with a longer side of `SIDE` pixels; None: it has none.
    """
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    style = (_HERE / "server/static/style.css").read_text(encoding="utf-8")
    cells = [{"id": r.id, "distance": r.distance, **_shown(r, picture_of(r))} for r in answer.results]
    template = environment.get_template("contact_sheet.html")
    page = template.render(query=query, notes=answer.notes, style=style, cells=cells)
    return _NO_TEXT.sub("\ufffd", page) + "\n"


def _shown(result: Result, picture: bytes | None) -> dict[str, str]:
    """What a page shows of a row's metadata."""
    metadata = result.metadata
    labels = metadata.get("labels") or metadata.get("label") or []
    return {
        "labels": ", ".join(map(str, labels)) if isinstance(labels, list) else str(labels),
        "words": str(metadata.get("text") or metadata.get("image") or "")[:200],
        "picture": base64.b64encode(picture or b"").decode(),
    }
