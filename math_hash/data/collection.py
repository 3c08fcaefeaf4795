"""A person's own collection: tables, folders of pictures, WebDataset tars, Hugging Face datasets.

Each reader yields records in a fixed order; one that cannot be used says why in its `problem`.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from math_hash.data.picture_formats import PICTURES
from math_hash.data.records import Columns, Record, as_list
from math_hash.data.remote import is_remote, remote_tars
from math_hash.data.same_picture import merge_adjacent
from math_hash.data.tars import numbered_tars, read_remote_tars, read_tars
from math_hash.data.text_files import read_lines, stream_lines
from math_hash.errors import InputError, import_extra
from math_hash.plain_data import parse_json

TABLES = {".csv", ".tsv", ".jsonl", ".ndjson"}


def read_collection(source: str | Path, columns: Columns) -> tuple[Path, Iterator[Record]]:
    """Read a collection of any known form.

    Args:
        source: a `.csv`, `.tsv` or `.jsonl` file; a `.tar` file, `shards/{000..099}.tar`, or a folder of `.tar` files
            (WebDataset), also as a URL; a folder that Hugging Face `datasets` saved; a folder of pictures; where
            `columns.needed` is "text", also a `.txt` file.
        columns: names of a table's columns, and which one is needed.

    Returns:
        The folder that image paths are relative to, and the records. Rows of a table or a saved dataset that follow one
        another and have the same picture are one record.

    Raises:
        InputError: there is no such thing, it is of no known form, or it lacks the named columns.
    """
    if isinstance(source, str) and is_remote(source):
        return Path(), read_remote_tars(remote_tars(source), columns)
    source = Path(source)
    if source.suffix.lower() == ".tar" and "{" in str(source) and not source.exists():
        root, shards = numbered_tars(str(source))
        return root, read_tars(shards, columns, root)
    if source.exists() and not source.is_file() and not source.is_dir():
        raise InputError(f"{source}: is a device or a pipe; write its content to a file first")
    if source.is_file() and source.suffix.lower() in TABLES:
        return source.parent, _merged(read_table(source, columns), columns)
    if source.is_file() and source.suffix.lower() == ".txt" and columns.needed == "text":
        return source.parent, map(columns.checked, read_text_file(source))
    if source.is_file() and source.suffix.lower() == ".tar":
        return source.parent, read_tars([source], columns, source.parent)
    if source.is_dir() and any((source / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        return source, _merged(read_hugging_face(source, columns), columns)
    if source.is_dir():
        shards = sorted(source.glob("*.tar"))
        return source, read_tars(shards, columns, source) if shards else map(columns.checked, read_folder(source))
    forms = "a .csv, .tsv, .jsonl or .tar file, or a folder of pictures, of .tar files, or saved by datasets"
    raise InputError(f"{source}: {'is of no known form' if source.exists() else 'is not there'}; expected {forms}")


def _merged(records: Iterator[Record], columns: Columns) -> Iterator[Record]:
    return map(columns.checked, merge_adjacent(records))


def read_table(path: Path, columns: Columns) -> Iterator[Record]:
    """Rows of a CSV or TSV file with a heading line, or of a JSON Lines file.

    Numbers in further columns are numbers, in CSV too, where that loses nothing: "7" and "0.5", but not "007".

    Raises:
        InputError: the file is empty, lacks the needed column, names one twice, or a quotation mark swallows several
            of its lines.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_lines(path, columns)
        return
    csv.field_size_limit(1 << 27)
    heading = next(stream_lines(path), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=heading.count)
    rows = csv.DictReader(stream_lines(path), delimiter=delimiter, strict=True)
    try:
        names = rows.fieldnames or []
    except csv.Error as error:
        raise InputError(f"{path}: its heading is not a line of a table ({error})") from error
    _require_column(path, columns, names)
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise InputError(f"{path}: its heading names {twice[0]!r} twice; give each column a name of its own")
    while True:
        first = rows.line_num + 1
        where = f"{path}, line {first}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if (last := rows.reader.line_num) > first:
                raise InputError(
                    f"{where}: a quotation mark is opened and not closed ({error} in line {last}); close it, or write "
                    '"" for a quotation mark inside a value'
                ) from error
            yield Record(where, problem=f"not a line of a table ({error})")
            continue
        record = columns.record(where, row)
        if any(map(str.strip, row.get(None, ()))):
            record.problem = f"has more values than the heading; put one with {delimiter!r} inside in quotation marks"
        record.others = {name: _as_number(value) for name, value in record.others.items()}
        yield record


def _as_number(text: str) -> Any:
    """The number that is written exactly like the text and that all readers of JSON read exactly, or the text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and abs(number) < 2**53:
            return number
    return text


def _json_lines(path: Path, columns: Columns) -> Iterator[Record]:
    known = False
    for number, line in enumerate(stream_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = parse_json(line)
        except ValueError as error:
            yield Record(where, problem=f"not JSON ({error})")
            continue
        if not isinstance(values, dict):
            yield Record(where, problem="not a JSON object")
            continue
        if not known:
            _require_column(path, columns, list(values))
            known = True
        try:
            yield columns.record(where, values)
        except RecursionError as error:
            yield Record(where, problem=f"nested too deeply ({error})")


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
                values[columns.labels] = [names(value) for value in as_list(values[columns.labels], None)]
            record = columns.record(f"{folder}{'/' if name else ''}{name}, row {row}", {**values, columns.image: ""})
            if image:
                record.image, record.content = str(image.get("path") or f"{name}{row}.jpg"), image.get("bytes")
            yield record


def _class_names(feature: Any) -> Callable[[str], str] | None:
    """A function from the stored number of a class to its name; None where labels are not stored as numbers."""
    feature = getattr(feature, "feature", feature)
    return (lambda value: feature.int2str(int(value))) if hasattr(feature, "int2str") else None


def _require_column(path: Path, columns: Columns, present: Sequence[str]) -> None:
    if columns.needed_column not in present:
        listing = ", ".join(" ".join(name.split()) for name in present if name) or "nothing"
        raise InputError(
            f"{path}: has no column {columns.needed_column!r}, but {listing}; name it with `{columns.needed}_column`"
        )
