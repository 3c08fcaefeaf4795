"""One picture that shows what a model finds: texts with their top images, images with their top texts."""

from pathlib import Path
from textwrap import shorten, wrap

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from PIL import ImageOps

from math_hash.codes import hamming_distance, pack
from math_hash.data import DatasetFolder, Split, open_image
from math_hash.files import atomic_writer

_QUERIES, _TOP = 5, 6
_RIGHT, _WRONG = "#2a8f4f", "#c0392b"


def draw_contact_sheet(path: str | Path, folder: DatasetFolder, split: Split, codes) -> None:
    """Draw five query texts with their nearest images and five query images with their nearest texts.

    Queries are the split's first ones; ties are in database order. A green frame marks a result that shares a label
    with the query, a red one a result that shares none.

    Args:
        codes: `RowCodes` of queries and database.

    Raises:
        InputError: a picture cannot be read, or the file cannot be written.
    """
    columns = _TOP + 1
    queries = split.query[:_QUERIES]
    figure, axes = plt.subplots(
        2 * len(queries), columns, figsize=(1.9 * columns, 2.15 * 2 * len(queries)), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for place, query in enumerate(queries):
        for half, (asked, found) in enumerate((("text", "image"), ("image", "text"))):
            line = axes[half * len(queries) + place]
            distances = hamming_distance(
                pack(codes.of(asked, queries[place : place + 1])), pack(codes.of(found, split.database))
            )[0]
            _show(line[0], folder, query, asked, "#333333", "query" if asked == "text" else "query image")
            for axis, position in zip(line[1:], np.argsort(distances, kind="stable"), strict=False):
                row = split.database[position]
                right = bool((folder.labels[row] & folder.labels[query]).any())
                _show(axis, folder, row, found, _RIGHT if right else _WRONG, f"distance {distances[position]}")
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=80)
    plt.close(figure)


def _show(axis, folder: DatasetFolder, row: int, modality: str, colour: str, title: str) -> None:
    axis.set_title(title, fontsize=9, color=colour)
    labels = shorten(folder.label_texts[row], 60, placeholder=" ...")
    axis.set_xlabel("\n".join(wrap(labels, 24)), fontsize=7, color="#555555")
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)
    if modality == "image":
        axis.imshow(ImageOps.fit(open_image(folder.image_path(row)), (160, 160)))
    else:
        text = shorten(folder.captions[row].replace("$", r"\$"), 130, placeholder=" ...") or "(empty text)"
        axis.text(0.5, 0.5, "\n".join(wrap(text, 20)), ha="center", va="center", fontsize=8, transform=axis.transAxes)
