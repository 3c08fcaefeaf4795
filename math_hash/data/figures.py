"""Contact sheets: rows of a dataset, or queries with their nearest neighbors, as one picture."""

from functools import lru_cache
from itertools import product
from pathlib import Path
from textwrap import shorten, wrap
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from math_hash.data.folder import DatasetFolder
from math_hash.data.images import open_image
from math_hash.data.split import Split
from math_hash.files import atomic_writer

_QUERIES, _TOP = 5, 6
_CELL, _TITLE, _LABELS, _GAP = 160, 16, 28, 8
_QUERY, _RIGHT, _WRONG, _GREY = "#333333", "#2a8f4f", "#c0392b", "#555555"


class CodesByRow(Protocol):
    """The codes of both modalities of a dataset's rows."""

    def of(self, modality: str, rows: np.ndarray) -> np.ndarray:
        """Bits, bool (len(rows), k), of "image" or "text", in the order of `rows`."""


def draw_contact_sheet(path: str | Path, folder: DatasetFolder, split: Split, codes: CodesByRow) -> None:
    """Draw five query texts with their nearest images and five query images with their nearest texts.

    Queries are the split's first ones; ties are in database order. A green frame marks a result that shares a label
    with the query, a red one a result that shares none.

    Args:
        path: the PNG file to write.
        folder: the dataset.
        split: its queries and its database.
        codes: of the rows of both.

    Raises:
        InputError: a picture cannot be read, or the file cannot be written.
    """
    queries = split.query[:_QUERIES]
    database = {modality: codes.of(modality, split.database) for modality in ("image", "text")}
    across, down = _CELL + _GAP, _TITLE + _CELL + _LABELS + _GAP
    sheet = Image.new("RGB", ((_TOP + 1) * across + _GAP, 2 * len(queries) * down + _GAP), "white")
    directions = (("text", "image"), ("image", "text"))
    for line, ((asked, retrieved), query) in enumerate(product(directions, queries)):
        distances = (codes.of(asked, np.array([query])) != database[retrieved]).sum(axis=1)
        cells = [_cell(folder, query, asked, _QUERY, f"query {asked}")]
        for position in np.argsort(distances, kind="stable")[:_TOP]:
            row = split.database[position]
            frame = _RIGHT if (folder.labels[row] & folder.labels[query]).any() else _WRONG
            cells.append(_cell(folder, row, retrieved, frame, f"distance {distances[position]}"))
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_GAP + column * across, _GAP + line * down))
    with atomic_writer(path) as file:
        sheet.save(file, format="png")


def draw_rows(path: str | Path, folder: DatasetFolder, rows: np.ndarray, across: int = 6) -> None:
    """Draw rows of a dataset: each picture with its number, its text and its labels.

    Args:
        path: the PNG file to write.
        folder: the dataset.
        rows: numbers of the rows.
        across: pictures beside each other.

    Raises:
        InputError: a picture cannot be read, or the file cannot be written.
    """
    text_height = 76
    wide, high = _CELL + _GAP, _TITLE + _CELL + _LABELS + text_height + _GAP
    sheet = Image.new("RGB", (across * wide + _GAP, -(-len(rows) // across) * high + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        x, y = _GAP + place % across * wide, _GAP + place // across * high
        sheet.paste(_cell(folder, row, "image", _QUERY, f"row {row}"), (x, y))
        text = _fold(folder.captions[row], 26, 100) or "(no text)"
        draw.text((x, y + _TITLE + _CELL + _LABELS + 2), text, fill="black", font=_font(10))
    with atomic_writer(path) as file:
        sheet.save(file, format="png")


def _cell(folder: DatasetFolder, row: int, modality: str, colour: str, title: str) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _TITLE + _CELL + _LABELS), "white")
    draw, middle = ImageDraw.Draw(cell), _CELL // 2
    draw.text((middle, 1), title, fill=colour, font=_font(11), anchor="ma")
    if modality == "image":
        cell.paste(ImageOps.fit(open_image(folder.image_path(row)), (_CELL, _CELL)), (0, _TITLE))
    else:
        text = _fold(folder.captions[row], 19, 130) or "(empty text)"
        place = (middle, _TITLE + _CELL // 2)
        draw.text(place, text, fill="black", font=_font(12), anchor="mm", align="center")
    draw.rectangle((0, _TITLE, _CELL - 1, _TITLE + _CELL - 1), outline=colour, width=3)
    labels = _fold(folder.label_texts[row], 28, 56)
    place = (middle, _TITLE + _CELL + 2)
    draw.text(place, labels, fill=_GREY, font=_font(9), anchor="ma", align="center")
    return cell


def _fold(text: str, width: int, most: int) -> str:
    return "\n".join(wrap(shorten(text, most, placeholder=" ..."), width))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's DejaVu Sans: Pillow's own font has no letters beyond ASCII."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
