"""The results of a search as one HTML page that needs no other file: the pictures are inside it."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from math_hash.retrieval.searcher import Answer
from math_hash.retrieval.thumbnail import thumbnail

_HERE = Path(__file__).parent
_SIDE = 320  # pixels of a picture's longer side
_NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")  # not allowed in HTML


def contact_sheet(query: str, answer: Answer, images: Path | None) -> str:
    """The page, in the style of the search page.

    Args:
        query: what was searched for.
        images: folder of the collection's pictures; None: without pictures.
    """
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    style = (_HERE / "server/static/style.css").read_text(encoding="utf-8")
    cells = [{"id": r.id, "distance": r.distance, **_shown(r.metadata, images)} for r in answer.results]
    template = environment.get_template("contact_sheet.html")
    page = template.render(query=query, notes=answer.notes, style=style, cells=cells)
    return _NO_TEXT.sub("\ufffd", page) + "\n"


def _shown(metadata: Mapping[str, Any], images: Path | None) -> dict[str, str]:
    """What a page shows of a row's metadata."""
    labels = metadata.get("label") or []
    picture = thumbnail(images, metadata, _SIDE) if images else None
    return {
        "labels": ", ".join(map(str, labels)) if isinstance(labels, list) else str(labels),
        "words": str(metadata.get("text") or "")[:200],
        "picture": base64.b64encode(picture or b"").decode(),
    }
