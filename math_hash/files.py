"""Writing files so that a crash, a kill or a full disk never leaves half of one."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from math_hash.errors import InputError


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well.

    The bytes go to a temporary file beside `path`, are flushed to the disk, and replace `path` in one rename. If the
    block fails, `path` is as it was and the temporary file is gone.

    Raises:
        InputError: the file could not be written (full disk, missing permission).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: str | Path, content: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, content.encode())


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new empty folder that replaces `path` as a whole when the block ends well.

    Raises:
        InputError: the folder could not be written.
    """
    path = Path(path)
    building = path.with_name(f".{path.name}.{os.getpid()}.new")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        building.mkdir(parents=True)
        yield building
        if path.exists():
            os.rename(path, replaced)
        os.rename(building, path)
        _sync_folder(path.parent)
    except OSError as error:
        if replaced.exists() and not path.exists():
            os.rename(replaced, path)
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); delete it or make it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object; delete it or make it again")
    return content


def sha256(path: str | Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
