"""Records: the rows of a person's own collection, whatever it is stored in."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGEST_METADATA = 2**20  # bytes of a row's metadata as JSON


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

    def metadata(self) -> dict[str, Any]:
        """What is kept of the row beside its code."""
        own = {"image": self.image, "text": " ".join(self.texts), "labels": self.labels}
        metadata = {**self.others, **{name: value for name, value in own.items() if value}}
        return {**metadata, "member": list(self.member)} if self.member[0] >= 0 else metadata


@dataclass(frozen=True)
class Columns:
    """How to read a table.

    Attributes:
        image, text, labels, id: names of the columns, or keys in JSON. Where `labels` is "labels", a column "label" is
            read too.
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
        """The same record, with a `problem` where it lacks what is needed, or cannot be written."""
        if not record.problem and not (record.image if self.needed == "image" else record.texts):
            record.problem = "has no picture" if self.needed == "image" else "has no text"
        record.problem = record.problem or _unusable(record)
        record.where = record.where.encode(errors="backslashreplace").decode()  # messages are UTF-8
        return record

    def record(self, where: str, values: dict[str, Any]) -> Record:
        """The record of a table's row; texts and labels may be lists already."""
        row_id, image = ("" if values.get(name) is None else str(values[name]) for name in (self.id, self.image))
        record = Record(where, row_id, image.strip())
        record.texts = as_list(values.get(self.text), None)
        labels = "label" if self.labels == "labels" and self.labels not in values else self.labels
        own = (self.id, self.image, self.text, labels, "")
        record.others = {name: value for name, value in values.items() if name not in own and _is_scalar(value)}
        if values.get(labels) is not None:
            record.labels = as_list(values[labels], self.separator) or None
        return record


def _unusable(record: Record) -> str:
    """Why the record cannot be written as UTF-8, or found by its path, or ""."""
    if "\0" in record.id + record.image:
        return "has a null character in its id or path"
    try:
        size = len(json.dumps([record.id, record.metadata()], ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "is not UTF-8 (half a character, or a file's name in another encoding); rename or repair it"
    return f"holds {size} bytes; expected at most {LARGEST_METADATA}" if size > LARGEST_METADATA else ""


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def as_list(value: Any, separator: str | None) -> list[str]:
    """Texts or labels of one value: a list, or a string that is cut at `separator`; empty ones are dropped."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple) else str(value).split(separator) if separator else [value]
    return [text for text in (" ".join(str(item).split()) for item in values if item is not None) if text]
