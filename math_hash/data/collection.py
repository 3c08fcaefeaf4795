"""A person's own collection: tables, folders of pictures, WebDataset tars, Hugging Face datasets.

Each reader yields records in a fixed order; one that cannot be used says why in its `problem`.
"""

import csv
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from math_hash.data.text_files import read_lines, stream_lines
from math_hash.errors import InputError, import_extra

PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
TABLES = {".csv", ".tsv", ".jsonl", ".ndjson"}


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
        others: the table's further columns.
        problem: why the record cannot be used, or "".
    """

    where: str
    id: str = ""
    image: str = ""
    texts: list[str] = field(default_factory=list)
    labels: list[str] | None = None
    member: tuple[int, int] = (-1, -1)
    content: bytes | None = None
    others: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """How to read a table.

    Attributes:
        image, text, labels, id: names of the columns, or keys in JSON.
        separator: the character between two labels.
        needed: "image" or "text", which no row may lack.
    """

    image: str = "image"
    text: str = "text"
    labels: str = "labels"
    separator: str = ","
    id: str = "id"
    needed: str = "image"

    @property
    def needed_column(self) -> str:
        """Name of the column that must be there."""
        return self.image if self.needed == "image" else self.text

    def checked(self, record: Record) -> Record:
        """The same record, with a `problem` where it lacks what is needed."""
        if not record.problem and not (record.image if self.needed == "image" else record.texts):
            record.problem = "has no picture" if self.needed == "image" else "has no text"
        return record

    def record(self, where: str, values: dict[str, Any]) -> Record:
        """The record of a table's row; texts and labels may be lists already."""
        image = values.get(self.image)
        record = Record(where, str(values.get(self.id) or ""), str(image or "").strip())
        record.texts = _as_list(values.get(self.text), None)
        own = (self.id, self.image, self.text, self.labels, "")
        record.others = {name: value for name, value in values.items() if name not in own and _is_scalar(value)}
        if values.get(self.labels) is not None:
            record.labels = _as_list(values[self.labels], self.separator) or None
        return record


def read_collection(source: Path, columns: Columns) -> tuple[Path, Iterator[Record]]:
    """Read a collection of any known form.

    Args:
        source: a `.csv`, `.tsv` or `.jsonl` file; a `.tar` file or a folder of them (WebDataset); a folder that
            Hugging Face `datasets` saved; a folder of pictures; where `columns.needed` is "text", also a `.txt` file.
        columns: names of a table's columns, and which one is needed.

    Returns:
        The folder that image paths are relative to, and the records.

    Raises:
        InputError: there is no such thing, it is of no known form, or it lacks the named columns.
    """
    if source.is_file() and source.suffix.lower() in TABLES:
        return source.parent, read_table(source, columns)
    if source.is_file() and source.suffix.lower() == ".txt" and columns.needed == "text":
        return source.parent, read_text_file(source)
    if source.is_file() and source.suffix.lower() == ".tar":
        return source.parent, read_tars([source], columns)
    if source.is_dir() and any((source / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        return source, read_hugging_face(source, columns)
    if source.is_dir():
        shards = sorted(source.glob("*.tar"))
        return source, read_tars(shards, columns) if shards else map(columns.checked, read_folder(source))
    forms = "a .csv, .tsv, .jsonl or .tar file, or a folder of pictures, of .tar files, or saved by datasets"
    raise InputError(f"{source}: {'is of no known form' if source.exists() else 'is not there'}; expected {forms}")


def read_table(path: Path, columns: Columns) -> Iterator[Record]:
    """Rows of a CSV or TSV file with a heading line, or of a JSON Lines file.

    Raises:
        InputError: the file is empty, or lacks the needed column.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_lines(path, columns)
        return
    csv.field_size_limit(1 << 27)
    heading = next(stream_lines(path), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=heading.count)
    rows = csv.DictReader(stream_lines(path), delimiter=delimiter, restkey="")
    _require_column(path, columns, rows.fieldnames or [])
    while True:
        where = f"{path}, line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(where, problem=f"not a line of a table ({error})")
            continue
        yield columns.checked(columns.record(where, row))


def _json_lines(path: Path, columns: Columns) -> Iterator[Record]:
    known = False
    for number, line in enumerate(stream_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            yield Record(where, problem=f"not JSON ({error})")
            continue
        if not isinstance(values, dict):
            yield Record(where, problem="not a JSON object")
            continue
        if not known:
            _require_column(path, columns, list(values))
            known = True
        yield columns.checked(columns.record(where, values))


def read_text_file(path: Path) -> Iterator[Record]:
    """One text per line; the number of the line is the row's id."""
    for number, line in enumerate(stream_lines(path), start=1):
        text = " ".join(line.split())
        yield Record(
            f"{path}, line {number}", str(number), "", [text] if text else [], problem="" if text else "is empty"
        )


def read_folder(folder: Path) -> Iterator[Record]:
    """Pictures of a folder and all folders in it, in alphabetical order.

    `a.txt` beside `a.jpg` holds its texts, one per line. Where every picture lies in a subfolder, the name of the
    outermost one is its label.

    Raises:
        InputError: the folder holds no pictures.
    """
    pictures = sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in PICTURES and not name.startswith(".")
    )
    if not pictures:
        raise InputError(f"{folder}: holds no pictures ({', '.join(sorted(PICTURES))}), .tar files or saved dataset")
    in_class_folders = all(len(Path(name).parts) > 1 for name in pictures)
    for name in pictures:
        beside = (folder / name).with_suffix(".txt")
        texts = [line.strip() for line in read_lines(beside) if line.strip()] if beside.is_file() else []
        labels = [Path(name).parts[0]] if in_class_folders else None
        yield Record(str(folder / name), name, name, texts, labels)


def read_tars(tars: Iterable[Path], columns: Columns) -> Iterator[Record]:
    """Samples of WebDataset tars: consecutive files whose names agree up to the first dot.

    The picture is the file with a picture's ending, `.txt` holds its texts, `.cls` its labels, and a `.json` has the
    keys that `columns` names. Pictures stay in the tar files.
    """
    for tar in tars:
        try:
            with tarfile.open(tar, "r:") as archive:
                yield from _samples(tar, archive, columns)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield Record(str(tar), problem=f"cannot be read as an uncompressed tar file ({error})")


def _samples(tar: Path, archive: tarfile.TarFile, columns: Columns) -> Iterator[Record]:
    record: Record | None = None
    for member in archive:
        if not member.isfile():
            continue
        stem, _, ending = Path(member.name).name.partition(".")
        sample = os.path.join(os.path.dirname(member.name), stem)
        if record is None or sample != record.id:
            if record:
                yield columns.checked(record)
            record = Record(f"{tar}/{sample}", sample)
        ending = ending.lower()
        if f".{ending}" in PICTURES:
            record.image, record.member = f"{tar.name}/{member.name}", (member.offset_data, member.size)
        elif ending in ("txt", "text", "cls", "json"):
            file = archive.extractfile(member)
            content = file.read().decode(errors="replace") if file else ""
            _add_part(record, ending, content, columns)
    if record:
        yield columns.checked(record)


def _add_part(record: Record, ending: str, content: str, columns: Columns) -> None:
    if ending == "cls":
        record.labels = _as_list(content, columns.separator)
    elif ending == "json":
        try:
            other = columns.record(record.where, json.loads(content))
        except (ValueError, AttributeError) as error:
            record.problem = f"its .json is not a JSON object ({error})"
            return
        record.texts, record.labels = other.texts or record.texts, other.labels or record.labels
    else:
        record.texts = [line.strip() for line in content.splitlines() if line.strip()]


def read_hugging_face(folder: Path, columns: Columns) -> Iterator[Record]:
    """Rows of a folder that Hugging Face `datasets` saved (`save_to_disk`): all its splits, one after another.

    Raises:
        InputError: `datasets` is not installed, the folder is damaged, or it lacks the needed column.
    """
    datasets = import_extra("datasets", "huggingface", folder)
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # it raises many kinds on damaged folders
        raise InputError(f"{folder}: cannot be read as a saved dataset ({str(error).splitlines()[0]})") from error
    parts = loaded if isinstance(loaded, dict) else {"": loaded}
    for name, part in parts.items():
        _require_column(folder, columns, part.column_names)
        names = _class_names(part.features.get(columns.labels))
        part = part.cast_column(columns.image, datasets.Image(decode=False))
        for row, values in enumerate(part):
            image = values[columns.image] or {}
            if names and values.get(columns.labels) is not None:
                values[columns.labels] = [names(value) for value in _as_list(values[columns.labels], None)]
            record = columns.record(f"{folder}{'/' if name else ''}{name}, row {row}", {**values, columns.image: ""})
            if image:
                record.image, record.content = str(image.get("path") or f"{name}{row}.jpg"), image.get("bytes")
            yield columns.checked(record)


def _class_names(feature: Any) -> Callable[[str], str] | None:
    """A function from the stored number of a class to its name; None where labels are not stored as numbers."""
    feature = getattr(feature, "feature", feature)
    return (lambda value: feature.int2str(int(value))) if hasattr(feature, "int2str") else None


def _require_column(path: Path, columns: Columns, present: Sequence[str]) -> None:
    if columns.needed_column not in present:
        listing = ", ".join(name for name in present if name) or "nothing"
        raise InputError(
            f"{path}: has no column {columns.needed_column!r}, but {listing}; name it with --{columns.needed}-column"
        )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and value == value


def _as_list(value: Any, separator: str | None) -> list[str]:
    """Texts or labels of one value: a list, or a string that is cut at `separator`; empty ones are dropped."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple) else str(value).split(separator) if separator else [value]
    return [text for text in (" ".join(str(item).split()) for item in values if item is not None) if text]
