"""MATLAB files, in every form that the field's releases wrote them.

Strings come as char arrays padded with blanks, or as cell arrays of strings, as (n, 1) or (1, n), in v5/v7 files (read
by SciPy) or in v7.3 files, which are HDF5 (read by h5py). This module writes v5 files with padded char arrays, which
is what the releases' own tools do.
"""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from math_hash.errors import InputError
from math_hash.files import atomic_writer

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_strings(path: str | Path, key: str) -> list[str]:
    """Read n strings; padding blanks at either end are stripped.

    Raises:
        InputError: the file is missing or damaged, has no such key, or the key does not hold strings.
    """
    value = _read(path, key, strings=True)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "U":
            value = value.reshape(-1).tolist()
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
    value = _read(path, key, strings=False)
    value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    if value.ndim != 2 or value.dtype.kind not in "buif":
        raise InputError(f"{path}: key '{key}' has shape {value.shape}; expected a matrix of 0/1, a row an instance")
    wrong = np.argwhere((value != 0) & (value != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"{path}: key '{key}', row {row}, column {column}: {value[row, column]} is not a label; expected 0 or 1"
        )
    return value.astype(np.uint8)


def write_mat(path: str | Path, arrays: dict[str, Any]) -> None:
    """Write arrays, or lists of strings as padded char arrays, to a compressed v5 file, atomically.

    Raises:
        InputError: the file could not be written.
    """
    content = {name: _char_array(value) if isinstance(value, list) else value for name, value in arrays.items()}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content, do_compression=True)
    with atomic_writer(path) as file:
        file.write(buffer.getbuffer())


def _char_array(texts: list[str]) -> np.ndarray:
    width = max((len(text) for text in texts), default=1) or 1
    return np.array([text.ljust(width) for text in texts], dtype=f"<U{width}")


def _read(path: str | Path, key: str, strings: bool) -> Any:
    path = Path(path)
    try:
        with open(path, "rb") as file:
            # MATLAB puts a header of 512 bytes before the HDF5 file proper
            head = file.read(len(_HDF5_SIGNATURE) + 512)
        if head.startswith(_HDF5_SIGNATURE) or head[512:] == _HDF5_SIGNATURE:
            with h5py.File(path, "r") as file:
                if key in file:
                    return _hdf5_strings(file, file[key]) if strings else np.asarray(file[key]).T
                found = sorted(set(file) - {"#refs#"})
        else:
            content = scipy.io.loadmat(path, variable_names=[key])
            if key in content:
                return content[key]
            found = sorted(name for name, _, _ in scipy.io.whosmat(path))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; build the dataset with a tool of tools/make_datasets/, "
            "or name its folder with --dataset-root and --dataset"
        ) from error
    except InputError:
        raise
    except Exception as error:  # SciPy and h5py raise many kinds on damaged files
        raise InputError(f"{path}: not a readable .mat file ({error}); build it again") from error
    raise InputError(f"{path}: has no key '{key}'; it holds {', '.join(found) or 'nothing'}")


def _cell_text(cell: Any) -> str | None:
    """The text of one cell, which SciPy gives as an array of no or one string, at times wrapped twice."""
    while isinstance(cell, np.ndarray):
        if cell.size == 0:
            return ""
        if cell.size > 1:
            return None
        cell = cell.reshape(-1)[0]
    return str(cell) if isinstance(cell, str) else None


def _hdf5_strings(file: h5py.File, value: h5py.Dataset) -> list[str] | None:
    if h5py.check_ref_dtype(value.dtype):  # a cell array: references to char arrays
        return [_hdf5_text(file[reference]) for reference in value[()].reshape(-1)]
    if value.dtype.kind in "ui":  # a char array (n, width), stored transposed
        return [_utf16(row) for row in value[()].T]
    return None


def _hdf5_text(value: h5py.Dataset) -> str:
    # an empty MATLAB array is stored as its shape, marked by this attribute
    return "" if value.attrs.get("MATLAB_empty", 0) else _utf16(value[()].reshape(-1, order="F"))


def _utf16(units: np.ndarray) -> str:
    return units.astype("<u2").tobytes().decode("utf-16-le", errors="replace")
