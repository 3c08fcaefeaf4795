"""The structure of MATLAB v5 files: char arrays are written in it, and files are checked before SciPy reads them.

SciPy's compiled reader takes types and sizes as the file states them, so damaged ones crash the process. Source:
"MAT-File Level 5 File Format", The MathWorks: data elements (table 1-1), array classes (table 1-3) and the
parts of each.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # type -> bytes of a number
_CHARACTERS = {1, 2, 4, 16, 17, 18}
_CELL, _CHAR, _SPARSE, _LARGEST_CLASS = 1, 4, 5, 15
_COMPLEX, _LOGICAL = 0x800, 0x200  # among an array's flags
_OPAQUE = 17  # an object without shape and name
_CLASSES = dict(enumerate("""cell struct object char sparse double single int8 uint8 int16 uint16 int32 uint32 int64
    uint64 function""".split(), 1))  # fmt: skip
_DEEPEST = 50  # cells in cells
_HEAD = 1 << 16  # bytes of a variable that hold its name


class _Element(NamedTuple):
    kind: int
    data: memoryview
    end: int


class _Variable(NamedTuple):
    name: str
    shape: list[int]
    kind: str
    content: memoryview
    is_packed: bool
    order: str


def variables_of_v5(file: BinaryIO) -> dict[str, tuple[list[int], str]]:
    """Name -> shape and class of the variables, as `scipy.io.whosmat` names it; no more than heads are decompressed.

    Args:
        file: the whole file, from its first byte on.

    Raises:
        ValueError, struct.error: types or sizes contradict each other.
    """
    return {variable.name: (variable.shape, variable.kind) for variable in _variables(file)}


def require_v5(file: BinaryIO, keys: Collection[str], limit: int) -> None:
    """Check the arrays under some keys, cells and their contents included.

    Args:
        file: the whole file, from its first byte on.
        limit: the largest number of bytes that a variable may take when it is decompressed.

    Raises:
        ValueError, struct.error: types or sizes contradict each other, or an array is a struct or an object.
    """
    for variable in _variables(file):
        if variable.name not in keys:
            continue
        data = variable.content
        if variable.is_packed:
            unpacking = zlib.decompressobj()
            whole = unpacking.decompress(data, limit + _HEAD)
            if unpacking.unconsumed_tail:
                raise ValueError(f"a variable of more than {limit:,} bytes")
            data = _element(memoryview(whole), 0, variable.order).data
        _require_array(data, variable.order, 0)


def _variables(file: BinaryIO) -> Iterator[_Variable]:
    order = "<" if file.read(128)[126:128] == b"IM" else ">"
    while len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        content = memoryview(file.read(size))
        if len(content) < size:
            raise ValueError("it is cut off")
        head, is_packed = content, kind == _COMPRESSED
        if is_packed:
            head = memoryview(zlib.decompressobj().decompress(content, _HEAD))
            [kind], head = struct.unpack_from(f"{order}I", head), head[8:]
        if kind != _MATRIX or struct.unpack_from(f"{order}I", head, 8)[0] & 0xFF == _OPAQUE:
            continue
        flags, shape, label = _header(head, order)
        bits, name = _bits(flags, order), bytes(label.data).decode("latin-1").strip("\0")
        named = "logical" if bits & _LOGICAL else _CLASSES.get(bits & 0xFF, "unknown")
        yield _Variable(name, _shape(shape, order), named, content, is_packed, order)


def _element(data: memoryview, at: int, order: str) -> _Element:
    """The data element at a place; one of up to four bytes has its size in the upper half of its type."""
    first, second = struct.unpack_from(f"{order}II", data, at)
    if is_small := bool(size := first >> 16):
        kind, start, end = first & 0xFFFF, at + 4, at + 8
    else:
        kind, size, start = first, second, at + 8
        end = start + size + (-size % 8)
    if start + size > len(data) or (is_small and size > 4):
        raise ValueError("an element is larger than what holds it")
    return _Element(kind, data[start : start + size], end)


def _header(data: memoryview, order: str) -> tuple[_Element, _Element, _Element]:
    flags = _element(data, 0, order)
    shape = _element(data, flags.end, order)
    name = _element(data, shape.end, order)
    if (
        flags.kind != _UINT32
        or len(flags.data) != 8
        or shape.kind != _INT32
        or len(shape.data) % 4
        or name.kind != _INT8
    ):
        raise ValueError("an array without flags, shape or name")
    return flags, shape, name


def _bits(flags: _Element, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", flags.data)[0])


def _shape(stated: _Element, order: str) -> list[int]:
    shape: list[int] = np.frombuffer(stated.data, np.dtype(f"{order}i4")).tolist()
    return shape


def _require_array(data: memoryview, order: str, depth: int) -> None:
    if not len(data) and depth:  # an empty cell
        return
    flags, stated, name = _header(data, order)
    bits, shape = _bits(flags, order), _shape(stated, order)
    if len(shape) < 2 or min(shape) < 0 or depth > _DEEPEST:
        raise ValueError(f"an array of shape {shape}")
    kind, count, at = bits & 0xFF, math.prod(shape), name.end
    if kind == _CELL:
        for _ in range(count):
            cell = _element(data, at, order)
            if cell.kind != _MATRIX:
                raise ValueError("a cell holds no array")
            _require_array(cell.data, order, depth + 1)
            at = cell.end
    elif kind == _CHAR:
        letters = _element(data, at, order)
        if letters.kind not in _CHARACTERS or count > len(letters.data):
            raise ValueError(f"fewer characters than its shape {shape} says")
    elif kind == _SPARSE:
        _require_sparse(data, at, order, shape, bool(bits & _COMPLEX))
    elif _SPARSE < kind <= _LARGEST_CLASS:
        for _ in range(2 if bits & _COMPLEX else 1):
            numbers = _element(data, at, order)
            if _count(numbers) != count:
                raise ValueError(f"{_count(numbers)} numbers, and a shape of {shape}")
            at = numbers.end
    else:
        raise ValueError("a struct or an object; expected numbers, characters or cells")


def _count(numbers: _Element) -> int:
    if numbers.kind not in _NUMBERS:
        raise ValueError(f"numbers of the unknown type {numbers.kind}")
    return len(numbers.data) // _NUMBERS[numbers.kind]


def _require_sparse(data: memoryview, at: int, order: str, shape: list[int], is_complex: bool) -> None:
    """A sparse matrix: row of each number, first number of each column, and the numbers."""
    integers = np.dtype(f"{order}i4")
    rows, firsts = _element(data, at, order), _element(data, _element(data, at, order).end, order)
    if {rows.kind, firsts.kind} - {_INT32, _UINT32} or len(rows.data) % 4 or len(firsts.data) != 4 * (shape[1] + 1):
        raise ValueError("a sparse matrix without rows or columns")
    row, first = np.frombuffer(rows.data, integers), np.frombuffer(firsts.data, integers)
    inside = row[: first[-1]] if first[-1] else row[:0]
    if (
        first[0]
        or (np.diff(first) < 0).any()
        or first[-1] > len(row)
        or (inside < 0).any()
        or (inside >= shape[0]).any()
    ):
        raise ValueError(f"places outside of its shape {shape}")
    at = firsts.end
    for _ in range(2 if is_complex else 1):
        numbers = _element(data, at, order)
        if _count(numbers) < first[-1]:
            raise ValueError("fewer numbers than places")
        at = numbers.end


def write_texts(file: BinaryIO, name: str, texts: list[str], width: int, block: int) -> None:
    """Append a char array, in UTF-8 and in MATLAB's order: all first characters, all second ones, and so on.

    Args:
        width: letters of the longest text; the others are padded with blanks.
        block: letters handled at a time.
    """
    n = len(texts)
    size = sum(len(text.encode()) + width - len(text) for text in texts)
    flags = struct.pack("<IIII", 6, 8, 4, 0)  # miUINT32, 8 bytes: class mxCHAR
    shape = struct.pack("<IIii", 5, 8, n, width)  # miINT32
    label = struct.pack("<II", 1, len(name)) + _padded(name.encode())  # miINT8
    body = flags + shape + label + struct.pack("<II", 16, size)  # miUTF8
    packer = zlib.compressobj(3)
    start = file.tell()
    file.write(struct.pack("<II", 15, 0))  # miCOMPRESSED; its size is known at the end
    file.write(packer.compress(struct.pack("<II", 14, len(body) + size + -size % 8) + body))  # miMATRIX
    step = max(block // max(n, 1), 1)
    for column in range(0, width, step):
        wide = min(step, width - column)
        letters = np.array([text[column : column + wide].ljust(wide) for text in texts], f"<U{wide}")
        characters = np.ascontiguousarray(letters.view("<U1").reshape(n, wide).T)
        file.write(packer.compress(characters.tobytes().decode("utf-32-le").encode()))
    file.write(packer.compress(bytes(-size % 8)) + packer.flush())
    end = file.tell()
    file.seek(start + 4)
    file.write(struct.pack("<I", end - start - 8))
    file.seek(end)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
