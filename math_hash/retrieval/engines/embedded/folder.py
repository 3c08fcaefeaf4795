"""The files in the folder of an embedded index: the database `rows.sqlite`, and snapshots beside it."""

import shutil
from pathlib import Path

from math_hash.errors import InputError
from math_hash.files import read_json, remove_abandoned

DATABASE = "rows.sqlite"
_SNAPSHOTS = "snapshot-*"


def require_folder(folder: Path, uri: str, can_begin: bool) -> None:
    """Check that there is an index, or that one can be begun.

    Raises:
        InputError: there is none, it has lost its database, or something else is there.
    """
    if (folder / DATABASE).exists():
        return
    if any(folder.glob(_SNAPSHOTS)):
        raise _lost(uri, "is missing")
    if not can_begin:
        raise InputError(f"{uri}: no index is there; make one with `math-hash index CODES --output {uri}`")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{uri}: is there already and is no index; name another folder")


def require_no_snapshot(folder: Path, uri: str) -> None:
    """Check that there is no snapshot with rows, as beside a database that never had any.

    Raises:
        InputError: there is one, which was made from another database.
    """
    if any(read_json(path).get("count") for path in folder.glob(f"{_SNAPSHOTS}/manifest.json")):
        raise _lost(uri, "has no rows")


def remove_orphans(folder: Path, keep: Path) -> None:
    """Remove what killed processes left behind: temporary files, and snapshots other than the one in effect.

    Call it inside a transaction, so that no other process is writing a snapshot.
    """
    remove_abandoned(folder)
    for orphan in folder.glob(_SNAPSHOTS):
        if orphan != keep:
            shutil.rmtree(orphan, ignore_errors=True)


def _lost(uri: str, problem: str) -> InputError:
    return InputError(
        f"{uri}: {DATABASE} {problem}, but a snapshot is beside it; put the right {DATABASE} back, or keep what the "
        f"snapshot holds with `math-hash index --repair {uri}`"
    )
