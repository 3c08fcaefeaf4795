"""The one reader and the one writer of MATLAB files, in every form that the field's releases wrote them.

Strings come as char arrays padded with blanks, or as cell arrays of strings, as (n, 1) or (1, n), in v5/v7 files (read
by SciPy) or in v7.3 files, which are HDF5 (read by h5py). This module writes v5 files with padded char arrays, which
is what the releases' own tools do, and v7.3 files where an array is too large for v5. Padded arrays are large where one
text is long, so they are written and read in blocks.

A file says how large its arrays are, and compression lets a small file say much: what an array takes in memory is
compared with the file's own size before it is read.
"""

import io
import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import scipy.io

from math_hash.errors import InputError, one_line
from math_hash.files import atomic_writer, open_regular
from math_hash.mat_v5 import require_v5, variables_of_v5, write_texts

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_V5_LIMIT = 2**31  # bytes of one array; the format's own limit is twice that
_BLOCK = 1 << 22  # characters handled at a time
_FLOOR, _RATIO = 1 << 29, 100  # an array may take this many bytes, or so many times the size of its file
_STRING = 64  # bytes that a short string takes
_ITEM_SIZES = {"int8": 1, "uint8": 1, "logical": 1, "char": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}


def read_strings(path: str | Path, key: str) -> list[str]:
    """Read n strings; padding blanks at either end are stripped.

    Raises:
        InputError: the file is missing or damaged, has no such key, or the key does not hold strings.
    """
    value = _read_one(path, key, strings=True)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{path}: key '{key}' does not hold strings; expected a char or a cell array")
    return [text.strip() for text in value]


def read_labels(path: str | Path, key: str) -> np.ndarray:
    """Read a label matrix as uint8 (n, c) of 0/1.

    Raises:
        InputError: the file is missing or damaged, has no such key, or holds something other than 0 and 1.
    """
    value = _read_one(path, key, strings=False)
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
    return _read(path, keys, strings=False)[0]


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
            write_texts(file, name, value, _width(value), _BLOCK)


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
    with _reading(path), open_regular(path) as file:
        limit = max(_FLOOR, _RATIO * os.fstat(file.fileno()).st_size)
        # MATLAB puts a header of 512 bytes before the HDF5 file proper
        head = file.read(len(_HDF5_SIGNATURE) + 512)
        if head.startswith(_HDF5_SIGNATURE) or head[512:] == _HDF5_SIGNATURE:
            with h5py.File(path, "r") as content:
                read = _hdf5_strings if strings else _hdf5_array
                values = {key: read(content, _hdf5_value(content, key), limit) for key in keys if key in content}
                return values, sorted(set(content) - {"#refs#"})
        file.seek(0)
        is_v4 = 0 in head[:4]
        # SciPy decompresses all of a v5 file for this; v4 is not compressed
        variables = {name: rest for name, *rest in scipy.io.whosmat(file)} if is_v4 else variables_of_v5(file)
        present = {key: variables[key] for key in keys if key in variables}
        for key, (shape, kind) in present.items():
            rows = shape[0] if kind == "char" else math.prod(shape)
            taken = math.prod(shape) * _ITEM_SIZES.get(kind, 8) + (rows * _STRING if strings else 0)
            _require_room(f"key '{key}', {kind} of shape {shape},", taken, limit)
        if not is_v4:
            file.seek(0)
            require_v5(file, keys, limit)
        apart = any(kind == "char" for _, kind in present.values())  # padded: split here, a block at a time
        file.seek(0)
        values = scipy.io.loadmat(file, variable_names=list(present), chars_as_strings=not apart)
        convert = _strings if strings else _as_array
        return {key: convert(values[key]) for key in present}, sorted(variables)


def _require_room(name: str, taken: int, limit: int) -> None:
    if taken > limit:
        raise ValueError(f"{name} takes {taken:,} bytes; a file of this size may hold {limit:,}")


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
        raise InputError(f"{path}: not a readable .mat file ({one_line(error)}); build it again") from error


def _as_array(value: Any) -> np.ndarray:
    """Numbers as a dense array; SciPy gives sparse matrices as they are."""
    return value.toarray() if hasattr(value, "toarray") else np.asarray(value)


def _strings(value: Any) -> Any:
    """The strings of a char or a cell array; another value is given back."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return _rows_of_characters(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_cell_text(cell) for cell in value.reshape(-1)]
    return value


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


def _hdf5_value(file: h5py.File, key: str) -> h5py.Dataset:
    """The array of that name, which has to lie in the file itself."""
    value = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(value, h5py.Dataset) or value.external or value.is_virtual:  # a struct, a sparse matrix, a link
        raise InputError(f"{file.filename}: key '{key}' is not an array of numbers or characters")
    return value


def _hdf5_array(file: h5py.File, value: h5py.Dataset, limit: int) -> np.ndarray:
    _require_room(f"key '{value.name.strip('/')}'", value.size * value.dtype.itemsize, limit)
    # an empty MATLAB array is stored as its shape, marked by this attribute
    return np.zeros(_empty_shape(value)) if value.attrs.get("MATLAB_empty", 0) else value[()].T


def _empty_shape(value: h5py.Dataset) -> np.ndarray:
    shape = value[()]
    if 0 not in shape:
        raise ValueError(f"an empty array of shape {shape}")
    return shape


def _hdf5_strings(file: h5py.File, value: h5py.Dataset, limit: int) -> list[str] | None:
    is_cell = h5py.check_ref_dtype(value.dtype)
    rows = value.size if is_cell else value.shape[-1]
    name, taken = f"key '{value.name.strip('/')}'", value.size * value.dtype.itemsize + rows * _STRING
    _require_room(name, taken, limit)
    if is_cell:  # references to char arrays
        cells = [file[reference] for reference in value[()].reshape(-1)]
        _require_room(name, taken + sum(cell.size * cell.dtype.itemsize for cell in cells), limit)
        return [_hdf5_text(cell) for cell in cells]
    if value.dtype.kind in "ui":  # a char array (n, width), stored transposed
        step = max(_BLOCK // max(value.shape[0], 1), 1)
        return [_utf16(row) for at in range(0, value.shape[1], step) for row in value[:, at : at + step].T]
    return None


def _hdf5_text(value: h5py.Dataset) -> str:
    return "" if value.attrs.get("MATLAB_empty", 0) else _utf16(value[()].reshape(-1, order="F"))


def _utf16(units: np.ndarray) -> str:
    return units.astype("<u2").tobytes().decode("utf-16-le", errors="replace")
