"""Embeddings that were computed elsewhere: clip-retrieval's folders, and parquet files with a column of vectors."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from math_hash.data.records import Columns, Record
from math_hash.data.rejected import first_few
from math_hash.errors import InputError, import_extra, one_line
from math_hash.files import map_array, require_regular

_BLOCK = 4096  # rows read at once
_FOLDERS = {"image": "img_emb", "text": "text_emb"}  # clip-retrieval's
_OTHER_NAMES = {"image": "image_path", "text": "caption"}  # clip-retrieval's columns


@dataclass(frozen=True)
class Embeddings:
    """A collection of vectors, whose files were compared with each other.

    Attributes:
        rows: number of all rows.
        width: d, the length of every usable vector.
        records: reads all rows from the first on, block by block. A record's `vector` is float32 (d,); one with another
            length, or with NaN or infinite values, has a `problem`.
    """

    rows: int
    width: int
    records: Callable[[], Iterator[Record]]


def holds_embeddings(source: Path) -> bool:
    """Whether this is a folder of clip-retrieval, a parquet file, or a folder of nothing but parquet files."""
    if not source.is_dir():
        return source.suffix.lower() == ".parquet" and source.is_file()
    names = [path.name for path in source.iterdir() if path.name[0] not in "._"]
    return any(name in names for name in _FOLDERS.values()) or (
        bool(names) and all(name.lower().endswith(".parquet") for name in names)
    )


def has_embeddings_of(source: Path, modality: str) -> bool:
    """Whether the source may hold vectors of "image" or "text": in a parquet file, vectors can be of either."""
    return (source / _FOLDERS[modality]).is_dir() or not any((source / name).is_dir() for name in _FOLDERS.values())


def open_embeddings(source: Path, modality: str, columns: Columns, width: int | None = None) -> Embeddings:
    """Open embeddings and check what can be checked without reading them.

    Args:
        source: a folder with `img_emb/img_emb_0.npy` ..., `text_emb/text_emb_0.npy` ... (float (n, d)) and
            `metadata/metadata_0.parquet` ..., of which parts with equal numbers have the same rows; or a parquet file,
            or a folder of them, with a column of lists of floats.
        modality: "image" or "text": the vectors to read of a folder with both.
        columns: of the metadata; `columns.vector` names the column of vectors in parquet files.
        width: d; by default that of the first vector.

    Raises:
        InputError: pyarrow is missing, a file is missing or damaged, parts do not belong together, there is not one
            column of vectors, or the vectors have another width.
    """
    if any((source / name).is_dir() for name in _FOLDERS.values()):
        parts: Sequence[_Part] = _clip_retrieval_parts(source, modality, columns)
    else:
        paths = sorted(source.glob("[!._]*.parquet")) if source.is_dir() else [source]
        parts = [_ParquetPart(path, columns) for path in paths]
    for part in parts:
        width = width or part.width
        if part.width and part.width != width:
            raise InputError(
                f"{part.path}: vectors of {part.width} numbers, expected {width}; choose the matching ones"
            )

    def records() -> Iterator[Record]:
        for part in parts:
            try:
                for row, (vector, values) in enumerate(part.rows()):
                    record = part.columns.record(f"{part.path}, row {row}", values)
                    record.vector, record.problem = vector, _problem(vector, width)
                    yield record
            except UnicodeDecodeError as error:
                raise InputError(f"{part.path}: its metadata holds text that is not UTF-8; write it again") from error

    return Embeddings(sum(part.count for part in parts), width or 0, records)


class _Part(Protocol):
    """The vectors of one file, and the metadata of the same rows."""

    path: Path
    columns: Columns
    count: int
    width: int

    def rows(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Each row's vector, float32 (width,), and its values in the columns of metadata."""


def _problem(vector: np.ndarray, width: int | None) -> str:
    if len(vector) != width:
        return f"has a vector of {len(vector)} numbers; expected {width}"
    return "" if np.isfinite(vector).all() else "its vector has NaN or infinite values"


def _clip_retrieval_parts(source: Path, modality: str, columns: Columns) -> list["_NumpyPart"]:
    name = _FOLDERS[modality]
    vectors, metadata = _numbered(source / name, ".npy"), _numbered(source / "metadata", ".parquet")
    if not vectors:
        raise InputError(f"{source}: holds no {name}/{name}_0.npy; choose the `modality` whose embeddings are there")
    if metadata and (alone := sorted(vectors.keys() ^ metadata.keys())):
        listing = first_few(map(str, alone))
        raise InputError(
            f"{source}: {name}/ and metadata/ differ in their parts ({listing}); both need the same numbers"
        )
    return [_NumpyPart(path, metadata.get(number), columns) for number, path in sorted(vectors.items())]


def _numbered(folder: Path, ending: str) -> dict[int, Path]:
    """The parts of a folder of clip-retrieval: number -> path."""
    matches = ((re.fullmatch(rf"{folder.name}_(\d+){ending}", path.name), path) for path in folder.glob(f"*{ending}"))
    return {int(match[1]): path for match, path in matches if match}


class _NumpyPart:
    """An array of vectors, and perhaps the parquet file with the metadata of its rows."""

    def __init__(self, path: Path, metadata: Path | None, columns: Columns):
        self.path, self.metadata = path, _Parquet(metadata) if metadata else None
        array = map_array(path)
        if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f" or not array.flags.c_contiguous:
            raise InputError(f"{path}: {array.dtype} {array.shape}; expected floats (n, d), one row after the other")
        self.count, self.width = array.shape
        self.dtype, self.offset = array.dtype, array.offset
        if self.metadata and self.metadata.count != self.count:
            raise InputError(f"{path}: {self.count} rows, but {metadata} has {self.metadata.count}; they must be equal")
        self.columns = _renamed(columns, self.metadata.names if self.metadata else [])

    def rows(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        return zip(self._vectors(), self._values(), strict=False)

    def _vectors(self) -> Iterator[np.ndarray]:
        with open(self.path, "rb") as file:  # not through the map, whose pages would count as this process's memory
            file.seek(self.offset)
            for start in range(0, self.count, _BLOCK):
                block = np.fromfile(file, self.dtype, min(_BLOCK, self.count - start) * self.width)
                yield from _as_float32(block).reshape(-1, self.width)

    def _values(self) -> Iterator[dict[str, Any]]:
        if self.metadata is None:
            return repeat({})
        return (values for batch in self.metadata.batches(self.metadata.plain) for values in batch.to_pylist())


class _ParquetPart:
    """A parquet file with a column of vectors."""

    def __init__(self, path: Path, columns: Columns):
        self.path, self.file = path, _Parquet(path)
        self.count, self.columns = self.file.count, _renamed(columns, self.file.names)
        self.vector = columns.vector or self._only_vector_column()
        if self.vector not in self.file.vectors:
            listing = ", ".join(self.file.vectors) or "none"
            raise InputError(f"{path}: {self.vector!r} is no column of lists of floats; those are: {listing}")
        first = next(self.file.batches([self.vector], 1), None)
        self.width = 0 if first is None else len(_vectors(first.column(0))[0])

    def _only_vector_column(self) -> str:
        if len(self.file.vectors) != 1:
            listing = ", ".join(self.file.vectors) or "none"
            raise InputError(
                f"{self.path}: expected one column of lists of floats, found {listing}; name it with `vector_column`"
            )
        return self.file.vectors[0]

    def rows(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        for batch in self.file.batches([*self.file.plain, self.vector]):
            yield from zip(_vectors(batch.column(self.vector)), batch.select(self.file.plain).to_pylist(), strict=True)


class _Parquet:
    """A parquet file: the number of its rows, names of all columns, of lists of floats, and of metadata."""

    def __init__(self, path: Path):
        self.path = path
        parquet, self._arrow = (
            import_extra("pyarrow.parquet", "parquet", path),
            import_extra("pyarrow", "parquet", path),
        )
        self._open = parquet.ParquetFile
        try:
            require_regular(path)
            with self._open(path) as file:
                self.count, schema = file.metadata.num_rows, file.schema_arrow
        except (OSError, UnicodeDecodeError, self._arrow.ArrowException) as error:
            raise self._damaged(error) from error
        is_a = self._arrow.types
        self.names = schema.names
        self.vectors = [
            field.name
            for field in schema
            if (is_a.is_list(field.type) or is_a.is_large_list(field.type) or is_a.is_fixed_size_list(field.type))
            and is_a.is_floating(field.type.value_type)
        ]
        heavy = (is_a.is_binary, is_a.is_large_binary, is_a.is_struct)
        self.plain = [
            field.name
            for field in schema
            if field.name not in self.vectors and not any(is_heavy(field.type) for is_heavy in heavy)
        ]

    def batches(self, columns: list[str], rows: int = _BLOCK) -> Iterator[Any]:
        """Record batches of some columns; read through a small buffer, since row groups can be large."""
        try:
            with self._open(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield from file.iter_batches(rows, columns=columns)
        except (OSError, UnicodeDecodeError, self._arrow.ArrowException) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path}: not readable as parquet ({one_line(error)}); write or copy it again")


def _vectors(column: Any) -> list[np.ndarray]:
    """The lists of a column of pyarrow as float32 arrays; a missing one is empty, a missing number NaN."""
    lengths = np.array([length or 0 for length in column.value_lengths().to_pylist()])
    values = _as_float32(column.flatten().to_numpy(zero_copy_only=False))
    return np.split(values, np.cumsum(lengths)[:-1])


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is rejected
        return values.astype(np.float32)


def _renamed(columns: Columns, present: list[str]) -> Columns:
    """Columns with clip-retrieval's names of image and text, where only those are there."""
    named = {field: getattr(columns, field) for field in _OTHER_NAMES}
    other = {field: name for field, name in _OTHER_NAMES.items() if named[field] not in present and name in present}
    return replace(columns, **other)
