"""The results of a search as one HTML page that needs no other file: the pictures are inside it."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from math_hash.retrieval.results import Result, SearchResults

_HERE = Path(__file__).parent
BEGINNING = (_HERE / "contact_sheet.html").read_bytes().partition(b"<title>")[0]  # of every page
SIDE = 320  # pixels of a picture's longer side
_NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")  # not allowed in HTML


def contact_sheet(query: str, results: SearchResults, picture_of: Callable[[Result], bytes | None]) -> str:
    """The page, in the style of the search page.

    Args:
        query: what was searched for.
        picture_of: returns the picture of a row, a JPEG file with a longer side of `SIDE` pixels; None: it has none.
    """
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    style = (_HERE / "server/static/style.css").read_text(encoding="utf-8")
    pictures = [base64.b64encode(picture_of(result) or b"").decode() for result in results]
    template = environment.get_template("contact_sheet.html")
    page = template.render(
        query=query, notes=results.notes, style=style, rows=list(zip(results, pictures, strict=True))
    )
    return _NO_TEXT.sub("\ufffd", page) + "\n"
