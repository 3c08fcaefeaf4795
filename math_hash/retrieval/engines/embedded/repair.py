"""Verifying an embedded index, and keeping what can still be read of a damaged one."""

import json
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from math_hash.errors import InputError
from math_hash.files import read_json
from math_hash.hamming import choice
from math_hash.retrieval.engines.embedded.checksum import is_intact
from math_hash.retrieval.engines.embedded.folder import DATABASE
from math_hash.retrieval.engines.embedded.index import EmbeddedIndex
from math_hash.retrieval.engines.embedded.segment import Segment, codes_at, ids_at
from math_hash.retrieval.engines.embedded.snapshot import Snapshot
from math_hash.retrieval.engines.embedded.store import Store
from math_hash.retrieval.uri import uri_options

_RANGE = 4096  # rows read at once
_Row = tuple[Any, bytes, str | None]  # id, code, metadata


class Repaired(NamedTuple):
    """What `repair` did: rows kept, rows kept without their metadata, and ids or numbers of rows that are lost."""

    kept: int
    without_metadata: int
    lost: list[Any]


def check(uri: str) -> list[str]:
    """Verify all of an index: the database, every row, the snapshot's sums, its rows and its structure.

    Returns:
        What is wrong, one line each; nothing for an index that is whole.
    """
    folder = _folder(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            index = EmbeddedIndex(str(folder), None, "", create=False)
        except InputError as error:
            return [str(error)]
    index.close()
    _, rows, lost = _salvage(folder)
    problems = [f"row {number}, id {row_id!r}: damaged" for number, row_id in lost.items()]
    with closing(Store(folder, str(folder), None, "")) as store:
        if text := store.damage():
            problems.append(f"{DATABASE}: {text}")
        return problems + (_check_snapshot(folder, store, rows) if store.generation else [])


def _check_snapshot(folder: Path, store: Store, rows: dict[int, _Row]) -> list[str]:
    path = Snapshot.folder(folder, store.generation)
    try:
        snapshot = Snapshot.read(path, None, None)
    except (InputError, OSError, ValueError, KeyError) as error:
        return [f"{path}: {error}"]
    segment, dead = snapshot.segment, set(store.dead_rows().tolist())
    ids, codes = _content(segment, store.k_bits)
    there = {number: (row_id, code) for number, row_id, code in zip(segment.rows.tolist(), ids, codes, strict=True)}
    expected = {number: row[:2] for number, row in rows.items() if number <= snapshot.last_row}
    wrong = [n for n in there.keys() | expected.keys() if there.get(n) != expected.get(n) and n not in dead]
    problems = [f"{path}: row {number} differs from {DATABASE}" for number in sorted(wrong)]
    if structure := segment.structure:
        anew = choice.build(segment.codes, store.k_bits, structure.name)
        if anew is None or any(
            not np.array_equal(anew.arrays[name], array) for name, array in structure.arrays.items()
        ):
            problems.append(f"{path}: its structure does not fit its codes")
    return problems


def repair(uri: str) -> Repaired:
    """Make an index anew from all rows that can be read, of its database or, without metadata, of its snapshot.

    The damaged folder stays beside it, under its name with `.damaged`.

    Raises:
        InputError: there is nothing to repair, or nothing can be read.
    """
    folder = _folder(uri)
    damaged, repaired = (folder.with_name(f"{folder.name}.{what}") for what in ("damaged", "repaired"))
    for path in (damaged, repaired):
        if path.exists():
            raise InputError(f"{path}: is there already, from an earlier repair; remove it first")
    facts, rows, lost = _salvage(folder)
    facts_of_snapshot, rows_of_snapshot = _snapshot_rows(folder)
    saved, ids = 0, {row[0] for row in rows.values()}
    for number, (row_id, code) in rows_of_snapshot.items():
        if number not in rows and row_id not in ids and (number in lost or not ids):
            rows[number], saved = (row_id, code, None), saved + 1
    try:
        _write(repaired, {**facts_of_snapshot, **facts}, [rows[number] for number in sorted(rows)])
    except (InputError, KeyError, ValueError) as error:
        shutil.rmtree(repaired, ignore_errors=True)
        raise InputError(f"{folder}: too little of it can be read ({error}); index again") from error
    os.rename(folder, damaged)
    os.rename(repaired, folder)
    return Repaired(len(rows), saved, [lost[number] for number in sorted(lost) if number not in rows])


def _write(folder: Path, facts: dict[str, Any], rows: list[_Row]) -> None:
    """Write a new index of these rows."""
    if not rows:
        raise ValueError("no row is intact")
    with EmbeddedIndex(str(folder), int(facts["k_bits"]), str(facts["model"]), create=True) as index:
        for start in range(0, len(rows), _RANGE):
            ids, codes, texts = zip(*rows[start : start + _RANGE], strict=True)
            packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1)
            index.add(ids, packed, [json.loads(text or "{}") for text in texts])
        index.set_unfinished(str(facts.get("unfinished", "")))
        index.save()


def _salvage(folder: Path) -> tuple[dict[str, str], dict[int, _Row], dict[int, Any]]:
    """Facts, intact rows by number, and lost ones: number -> id, or the number where not even the id can be read."""
    rows: dict[int, _Row] = {}
    lost: dict[int, Any] = {}
    if not (folder / DATABASE).exists():
        return {}, rows, lost
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        unread: list[int] = []
        for number, row_id, code, text, stored in _read(database, 1, _last_row(database), unread):
            if is_intact(row_id, code, text, stored):
                rows[number] = row_id, code, text
            else:
                lost[number] = row_id
        dead = {number for (number,) in _answers(database, "SELECT row FROM dead")}
        lost |= {number: f"of row {number}" for number in unread if number not in dead}
        return dict(_answers(database, "SELECT name, value FROM facts")), rows, lost


def _answers(database: sqlite3.Connection, query: str) -> list[Any]:
    """The rows of an answer; none if the database cannot give it."""
    try:
        return database.execute(query).fetchall()
    except (sqlite3.Error, ValueError):  # also text that is not UTF-8
        return []


def _last_row(database: sqlite3.Connection) -> int:
    """Number of the last row, as far as the database can tell."""
    queries = ("SELECT seq FROM sqlite_sequence WHERE name = 'rows'", "SELECT max(row) FROM rows")
    return max((int(number or 0) for query in queries for (number,) in _answers(database, query)), default=0)


def _read(database: sqlite3.Connection, first: int, last: int, unread: list[int]) -> Iterator[tuple]:
    """Rows first ... last: number, id, code, metadata, checksum; adds those on unreadable pages to `unread`."""
    query = "SELECT row, id, code, metadata, sum FROM rows WHERE row BETWEEN ? AND ? ORDER BY row"
    for start in range(first, last + 1, _RANGE):
        end = min(start + _RANGE - 1, last)
        try:
            yield from database.execute(query, (start, end)).fetchall()
        except (sqlite3.Error, ValueError):
            if start == end:
                unread.append(start)
                continue
            middle = (start + end) // 2
            yield from _read(database, start, middle, unread)
            yield from _read(database, middle + 1, end, unread)


def _snapshot_rows(folder: Path) -> tuple[dict[str, Any], dict[int, tuple[Any, bytes]]]:
    """The manifest, and id and code by row number, of the newest snapshot that is whole; nothing if none is."""
    for path in sorted(folder.glob("snapshot-*"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            segment, manifest = Snapshot.read(path, None, None).segment, read_json(path / "manifest.json")
            values = zip(*_content(segment, manifest["k_bits"]), strict=True)
            return manifest, dict(zip(segment.rows.tolist(), values, strict=True))
        except (InputError, OSError, ValueError, KeyError):
            continue
    return {}, {}


def _content(segment: Segment, k_bits: int) -> tuple[list[Any], list[bytes]]:
    """All ids and packed codes of a segment."""
    places = np.arange(len(segment))
    return ids_at([segment], places).tolist(), [code.tobytes() for code in codes_at([segment], places, k_bits)]


def _folder(uri: str) -> Path:
    if "://" in uri:
        raise InputError(f"{uri}: only an index in a folder can be checked and repaired; its server keeps the others")
    folder = Path(uri_options(uri, {"engine": str, "nlist": int, "nprobe": int, "structure": str})[0])
    if not folder.is_dir():
        raise InputError(f"{folder}: no index is there")
    return folder
