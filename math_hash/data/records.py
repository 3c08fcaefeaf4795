"""Records: the rows of a person's own collection, whatever it is stored in."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

PICTURES = {
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif",
}  # fmt: skip


@dataclass
class Record:
    """One row of a collection.

    Attributes:
        where: file and line, row or sample, for messages.
        id: what the collection calls the row, or "".
        image: path of the picture.
        texts: its texts; there may be none.
        labels: its labels; None where the collection says nothing of them.
        member: first byte and number of bytes of a picture in a tar file, else (-1, -1).
        content: the bytes of a picture that is not a file.
        vector: its embedding, float32 (d,), in a collection of embeddings.
        others: the table's further columns.
        problem: why the record cannot be used, or "".
    """

    where: str
    id: str = ""
    image: str = ""
    texts: list[str] = field(default_factory=list)
    labels: list[str] | None = None
    member: tuple[int, int] = (-1, -1)
    content: bytes | None = field(default=None, repr=False)
    vector: np.ndarray | None = field(default=None, repr=False)
    others: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """How to read a table.

    Attributes:
        image, text, labels, id: names of the columns, or keys in JSON.
        vector: name of the column of vectors in parquet files; "": the only one.
        separator: the character between two labels.
        needed: "image" or "text", which no row may lack.
    """

    image: str = "image"
    text: str = "text"
    labels: str = "labels"
    separator: str = ","
    id: str = "id"
    needed: str = "image"
    vector: str = ""

    @property
    def needed_column(self) -> str:
        """Name of the column that must be there."""
        return self.image if self.needed == "image" else self.text

    def checked(self, record: Record) -> Record:
        """The same record, with a `problem` where it lacks what is needed, or holds what cannot be written as UTF-8."""
        try:
            "".join((record.id, record.image, *record.texts, *(record.labels or []))).encode()
        except UnicodeEncodeError:  # the name of a file in another encoding, or half a character in JSON
            record.problem = record.problem or "has a name or a text that is not UTF-8; rename or write it again"
        if not record.problem and not (record.image if self.needed == "image" else record.texts):
            record.problem = "has no picture" if self.needed == "image" else "has no text"
        return record

    def record(self, where: str, values: dict[str, Any]) -> Record:
        """The record of a table's row; texts and labels may be lists already."""
        image = values.get(self.image)
        record = Record(where, str(values.get(self.id) or ""), str(image or "").strip())
        record.texts = as_list(values.get(self.text), None)
        own = (self.id, self.image, self.text, self.labels, "")
        record.others = {name: value for name, value in values.items() if name not in own and _is_scalar(value)}
        if values.get(self.labels) is not None:
            record.labels = as_list(values[self.labels], self.separator) or None
        return record


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and value == value


def as_list(value: Any, separator: str | None) -> list[str]:
    """Texts or labels of one value: a list, or a string that is cut at `separator`; empty ones are dropped."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple) else str(value).split(separator) if separator else [value]
    return [text for text in (" ".join(str(item).split()) for item in values if item is not None) if text]
