"""Files: written atomically, so that a crash or a full disk never leaves half of one, and read within bounds."""

import ctypes
import glob
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from math_hash.errors import InputError, one_line
from math_hash.plain_data import parse_json

_MOST_JSON = 1 << 26  # bytes of a JSON file, unless the caller allows more
MOST_MANIFEST = 1 << 30  # bytes of a dataset's manifest, which holds all captions where rows have several


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only if the block succeeds.

    The bytes go to a temporary file beside `path`, are flushed to the disk, and replace `path` in one rename. If the
    block fails, `path` is unchanged and the temporary file is removed. Where `path` is a link, what it leads to is
    written.

    Raises:
        InputError: the file could not be written (full disk, missing permission).
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # such as a disk that has become read-only; the error above is the one to tell
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: str | Path, content: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, content.encode())


@contextmanager
def atomic_folder(path: str | Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new empty folder that replaces `path` as a whole if the block succeeds.

    On Linux the two folders are swapped in one step, so `path` is a complete folder at any moment. Elsewhere it takes
    two renames. Leftovers of killed processes are removed. Where `path` is a link, what it leads to is written.

    Args:
        replaces: see `require_replaceable`.

    Raises:
        InputError: something else is there, or the folder could not be written.
    """
    require_replaceable(path, replaces)
    path = Path(os.path.realpath(path))
    building = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        remove_abandoned(path.parent, path.name)
        building.mkdir(parents=True)
        yield building
        for written in building.iterdir():
            if written.is_file():
                _sync(written)
        _sync(building)
        require_replaceable(path, replaces)
        if not path.exists():
            os.rename(building, path)
        elif not _exchange(building, path):
            replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.rename(path, replaced)
            os.rename(building, path)
            shutil.rmtree(replaced, ignore_errors=True)
        _sync(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def require_replaceable(path: str | Path, replaces: Collection[str] = ()) -> None:
    """Refuse a path where something is that this package did not write.

    Args:
        replaces: names of files whose presence together says that the folder is one of the kind that may be replaced;
            without names, only an empty folder may be there.

    Raises:
        InputError: a file is there, or a folder of other things.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, and would be replaced by a folder; name another folder")
    if path.is_dir() and any(path.iterdir()) and not (replaces and all((path / name).is_file() for name in replaces)):
        wanted = f" (no {' and '.join(replaces)})" if replaces else ""
        raise InputError(f"{path}: holds other files{wanted}, which would be replaced; name another folder")


def require_own_file(path: str | Path, *beginnings: bytes) -> None:
    """Refuse a path where a file is that does not begin as those do that this package writes there.

    Raises:
        InputError: another file is there, or a folder, a pipe or a device.
    """
    if Path(path).exists():
        with open_regular(path) as file:
            start = file.read(max(map(len, beginnings)))
        if start and not start.startswith(beginnings):
            raise InputError(f"{path}: is a file of another kind, which would be replaced; name another file")


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step; False if the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in a folder while they wrote the file or folder of this name, or any."""
    for left in folder.glob(f".{'*' if name is None else glob.escape(name)}.*.*"):
        *_, owner, ending = left.name.split(".")
        if ending in ("tmp", "new", "old") and re.fullmatch("[0-9]{1,10}", owner) and not _is_running(int(owner)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # none has such a number
        return False
    except PermissionError:
        pass
    return True


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, but not a pipe, a device or a folder, which may never end or never answer.

    Raises:
        InputError: it is no regular file.
        OSError: it is missing or not accessible.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # which opens a pipe without a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: is a folder, a pipe or a device; expected a file")
    return open(descriptor, "rb")


def require_regular(path: str | Path) -> None:
    """Raises what `open_regular` raises, before a library opens the file by its name."""
    open_regular(path).close()


def read_bytes(path: str | Path, most: int) -> bytes:
    """Read a whole file.

    Args:
        most: the largest number of bytes that is read.

    Raises:
        InputError: it is no regular file, or a larger one.
        OSError: it is missing or not accessible.
    """
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise InputError(f"{path}: has {size:,} bytes; expected at most {most:,}")
        return file.read()


def read_json(path: str | Path, most: int = _MOST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        most: the largest number of bytes that is read.

    Raises:
        InputError: it cannot be read, is larger, or holds something else.
    """
    try:
        content = parse_json(read_bytes(path, most))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); delete it or create it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object; delete it or create it again")
    return content


def map_array(path: str | Path) -> np.memmap:
    """Open an array of a `.npy` file, memory-mapped for reading; objects, which are code, are refused.

    Raises:
        InputError: it is missing, no regular file, or damaged.
    """
    try:
        require_regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap):
            raise ValueError("an archive of several arrays, or an empty one")
    except InputError:
        raise
    except Exception as error:  # NumPy raises many kinds on damaged headers
        raise InputError(f"{path}: not a readable array ({one_line(error)}); compute or copy it again") from error
    return array


def sha256(path: str | Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sums_of(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """The SHA-256 sums of a folder's files (all of them by default), by name."""
    return {name: sha256(folder / name) for name in names or sorted(path.name for path in folder.iterdir())}


def require_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Compare files with their recorded sums.

    Raises:
        InputError: a file is missing or has changed.
    """
    for name, wanted in sums.items():
        if not (folder / name).is_file() or sha256(folder / name) != wanted:
            raise InputError(f"{folder / name}: has changed since it was written, or is missing; create it again")


def identity_of(path: str | Path) -> tuple[int, int] | None:
    """Which file this is, device and number, whatever its name; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
