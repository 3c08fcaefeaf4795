"""The one reader and the one writer of MATLAB files, in every form that the field's releases wrote them.

Strings come as char arrays padded with blanks, or as cell arrays of strings, as (n, 1) or (1, n), in v5/v7 files (read
by SciPy) or in v7.3 files, which are HDF5 (read by h5py). This module writes v5 files with padded char arrays, which
is what the releases' own tools do, and v7.3 files where an array is too large for v5. Padded arrays are large where one
text is long, so they are written and read in blocks.
"""

import io
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import scipy.io

from math_hash.errors import InputError
from math_hash.files import atomic_writer

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_V5_LIMIT = 2**31  # bytes of one array; the format's own limit is twice that
_BLOCK = 1 << 22  # characters handled at a time


def read_strings(path: str | Path, key: str) -> list[str]:
    """Read n strings; padding blanks at either end are stripped.

    Raises:
        InputError: the file is missing or damaged, has no such key, or the key does not hold strings.
    """
    value = _read_one(path, key, strings=True)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "U":
            value = _rows_of_characters(value)
        elif value.dtype == object:
            value = [_cell_text(cell) for cell in value.reshape(-1)]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{path}: key '{key}' does not hold strings; expected a char or a cell array")
    return [text.strip() for text in value]


def read_labels(path: str | Path, key: str) -> np.ndarray:
    """Read a label matrix as uint8 (n, c) of 0/1.

    Raises:
        InputError: the file is missing or damaged, has no such key, or holds something other than 0 and 1.
    """
    value = _as_array(_read_one(path, key, strings=False))
    if value.ndim != 2 or value.dtype.kind not in "buif":
        raise InputError(f"{path}: key '{key}' has shape {value.shape}; expected a matrix of 0/1, one row per instance")
    wrong = np.argwhere((value != 0) & (value != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"{path}: key '{key}', row {row}, column {column}: {value[row, column]} is not a label; expected 0 or 1"
        )
    return value.astype(np.uint8)


def read_arrays(path: str | Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Read the arrays under some keys, sparse ones as dense, in the types and shapes that the file has.

    Returns:
        The arrays by key, without the keys that the file lacks.

    Raises:
        InputError: the file is missing or damaged.
    """
    values, _ = _read(path, keys, strings=False)
    return {key: _as_array(value) for key, value in values.items()}


def write_mat(path: str | Path, arrays: Mapping[str, np.ndarray | list[str]]) -> None:
    """Write arrays, or lists of strings as padded char arrays, to a compressed file, atomically.

    A v5 file, or v7.3 (HDF5) where an array has 2 GiB or more.

    Raises:
        InputError: the file could not be written.
    """
    with atomic_writer(path) as file:
        if any(_size(value) >= _V5_LIMIT for value in arrays.values()):
            _write_v73(file, arrays)
        else:
            _write_v5(file, arrays)


def _size(value: np.ndarray | list[str]) -> int:
    return 4 * len(value) * _width(value) if isinstance(value, list) else np.asarray(value).nbytes


def _width(texts: list[str]) -> int:
    return max(map(len, texts), default=1) or 1


def _write_v5(file: BinaryIO, arrays: Mapping[str, np.ndarray | list[str]]) -> None:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: v for name, v in arrays.items() if not isinstance(v, list)}, do_compression=True)
    file.write(buffer.getbuffer())
    for name, value in arrays.items():
        if isinstance(value, list):
            _write_v5_texts(file, name, value)


def _write_v5_texts(file: BinaryIO, name: str, texts: list[str]) -> None:
    """Append a char array, in UTF-8 and in MATLAB's order: all first characters, all second ones, and so on.

    Source: "MAT-File Level 5 File Format", The MathWorks, table 1-1 (data types) and section "Numeric Array and
    Character Array Data Element Formats".
    """
    n, width = len(texts), _width(texts)
    size = sum(len(text.encode()) + width - len(text) for text in texts)
    flags = struct.pack("<IIII", 6, 8, 4, 0)  # miUINT32, 8 bytes: class mxCHAR
    shape = struct.pack("<IIii", 5, 8, n, width)  # miINT32
    label = struct.pack("<II", 1, len(name)) + _padded(name.encode())  # miINT8
    body = flags + shape + label + struct.pack("<II", 16, size)  # miUTF8
    packer = zlib.compressobj(3)
    start = file.tell()
    file.write(struct.pack("<II", 15, 0))  # miCOMPRESSED; its size is known at the end
    file.write(packer.compress(struct.pack("<II", 14, len(body) + size + -size % 8) + body))  # miMATRIX
    step = max(_BLOCK // max(n, 1), 1)
    for column in range(0, width, step):
        wide = min(step, width - column)
        block = np.array([text[column : column + wide].ljust(wide) for text in texts], f"<U{wide}")
        characters = np.ascontiguousarray(block.view("<U1").reshape(n, wide).T)
        file.write(packer.compress(characters.tobytes().decode("utf-32-le").encode()))
    file.write(packer.compress(bytes(-size % 8)) + packer.flush())
    end = file.tell()
    file.seek(start + 4)
    file.write(struct.pack("<I", end - start - 8))
    file.seek(end)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)


def _write_v73(file: BinaryIO, arrays: Mapping[str, np.ndarray | list[str]]) -> None:
    """Write HDF5 as MATLAB does: a header of 512 bytes, arrays transposed, texts as UTF-16 units."""
    with h5py.File(file, "w", userblock_size=512) as content:
        for name, value in arrays.items():
            if isinstance(value, list):
                _write_v73_texts(content, name, value)
                continue
            value = np.asarray(value)
            stored = content.create_dataset(name, data=value.T, compression="gzip", compression_opts=1)
            kind = {"float64": "double", "float32": "single", "bool": "logical"}.get(value.dtype.name, value.dtype.name)
            stored.attrs["MATLAB_class"] = np.bytes_(kind)
    file.seek(0)
    file.write(b"MATLAB 7.3 MAT-file, HDF5 schema 1.00".ljust(116) + bytes(8) + b"\x00\x02IM")


def _write_v73_texts(content: h5py.File, name: str, texts: list[str]) -> None:
    encoded = [text.encode("utf-16-le") for text in texts]
    width = max(map(len, encoded), default=2) // 2 or 1
    step = max(_BLOCK // width, 1)
    chunks = (width, min(step, len(texts)))
    stored = content.create_dataset(
        name, (width, len(texts)), np.uint16, chunks=chunks, compression="gzip", compression_opts=1
    )
    stored.attrs["MATLAB_class"] = np.bytes_("char")
    stored.attrs["MATLAB_int_decode"] = np.int32(2)
    for row in range(0, len(texts), step):
        block = [units + b" \0" * (width - len(units) // 2) for units in encoded[row : row + step]]
        stored[:, row : row + step] = np.frombuffer(b"".join(block), "<u2").reshape(-1, width).T


def _read_one(path: str | Path, key: str, strings: bool) -> Any:
    values, names = _read(path, [key], strings)
    if key not in values:
        raise InputError(f"{path}: has no key '{key}'; it holds {', '.join(names) or 'nothing'}")
    return values[key]


def _read(path: str | Path, keys: Collection[str], strings: bool) -> tuple[dict[str, Any], list[str]]:
    """What the file holds under those of `keys` that it has, and the names of all that it holds."""
    path = Path(path)
    with _reading(path), open(path, "rb") as file:
        # MATLAB puts a header of 512 bytes before the HDF5 file proper
        head = file.read(len(_HDF5_SIGNATURE) + 512)
        if head.startswith(_HDF5_SIGNATURE) or head[512:] == _HDF5_SIGNATURE:
            with h5py.File(path, "r") as content:
                read = _hdf5_strings if strings else _hdf5_array
                values = {key: read(content, content[key]) for key in keys if key in content}
                return values, sorted(set(content) - {"#refs#"})
        kinds = {name: kind for name, _, kind in scipy.io.whosmat(path)}
        present = [key for key in keys if key in kinds]
        apart = any(kinds[key] == "char" for key in present)  # padded char arrays: split here, a block at a time
        values = scipy.io.loadmat(path, variable_names=present, chars_as_strings=not apart)
        return {key: values[key] for key in present}, sorted(kinds)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; make the dataset with `math-hash dataset make`, "
            "or name its folder with `dataset_root` and `dataset`"
        ) from error
    except InputError:
        raise
    except Exception as error:  # SciPy and h5py raise many kinds on damaged files
        raise InputError(f"{path}: not a readable .mat file ({error}); build it again") from error


def _as_array(value: Any) -> np.ndarray:
    """Numbers as a dense array; SciPy gives sparse matrices as they are."""
    return value.toarray() if hasattr(value, "toarray") else np.asarray(value)


def _rows_of_characters(characters: np.ndarray) -> list[str]:
    """Rows of single characters, <U1 (n, width), as n strings."""
    if characters.size == 0:
        return [""] * len(characters)
    characters = characters.reshape(-1, characters.shape[-1])
    n, width = characters.shape
    step = max(_BLOCK // width, 1)
    blocks = (np.ascontiguousarray(characters[row : row + step]) for row in range(0, n, step))
    return [text for block in blocks for text in block.view(f"<U{width}").reshape(-1).tolist()]


def _cell_text(cell: Any) -> str | None:
    """The text of one cell, which SciPy gives as an array of no or one string, at times wrapped twice."""
    while isinstance(cell, np.ndarray):
        if cell.size == 0:
            return ""
        if cell.size > 1:
            return None
        cell = cell.reshape(-1)[0]
    return str(cell) if isinstance(cell, str) else None


def _hdf5_array(file: h5py.File, value: h5py.Dataset) -> np.ndarray:
    if not isinstance(value, h5py.Dataset):  # a struct, or a sparse matrix
        raise InputError(f"{file.filename}: key '{value.name.strip('/')}' is not an array of numbers")
    # an empty MATLAB array is stored as its shape, marked by this attribute
    return np.zeros(value[()]) if value.attrs.get("MATLAB_empty", 0) else value[()].T


def _hdf5_strings(file: h5py.File, value: h5py.Dataset) -> list[str] | None:
    if h5py.check_ref_dtype(value.dtype):  # a cell array: references to char arrays
        return [_hdf5_text(file[reference]) for reference in value[()].reshape(-1)]
    if value.dtype.kind in "ui":  # a char array (n, width), stored transposed
        step = max(_BLOCK // max(value.shape[0], 1), 1)
        return [_utf16(row) for at in range(0, value.shape[1], step) for row in value[:, at : at + step].T]
    return None


def _hdf5_text(value: h5py.Dataset) -> str:
    return "" if value.attrs.get("MATLAB_empty", 0) else _utf16(value[()].reshape(-1, order="F"))


def _utf16(units: np.ndarray) -> str:
    return units.astype("<u2").tobytes().decode("utf-16-le", errors="replace")
