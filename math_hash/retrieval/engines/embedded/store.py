"""The store of an embedded index: one SQLite database, `rows.sqlite`, which is the truth.

Changes are durable when their transaction ends. Each row carries a checksum, which is compared whenever it is read.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.filters import Clause
from math_hash.retrieval.ids import KINDS, Id, IdKind

DATABASE = "rows.sqlite"
FORMAT = 1
_CHUNK = 100_000  # rows read at once
_REMEMBERED = 100_000  # different values whose passing a filter is remembered
_METADATA_CHUNK = 5000  # rows whose metadata is read at once: searches wait for the lock
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id NOT NULL UNIQUE, code BLOB NOT NULL, metadata TEXT, sum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dead (row INTEGER PRIMARY KEY);
"""


class Store:
    """Ids, codes and metadata of an index's rows, and the facts that change in the same transactions.

    Row numbers rise in order of insertion and are never used again. A deleted row stays listed as dead until a snapshot
    without it takes effect; `generation` is the number of the snapshot in effect, 0 for none.

    Attributes:
        uri: name of the index in messages.
        k_bits: length of the codes.
        model: fingerprint of the model that made them, or "".
    """

    def __init__(self, folder: Path, uri: str, k_bits: int | None, model: str):
        """Open the database in `folder`, or make it.

        Raises:
            InputError: it is of another format, or is empty and `k_bits` is None.
            sqlite3.Error, OSError, KeyError, ValueError: it is damaged, or cannot be written.
        """
        self.uri = uri
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / DATABASE, timeout=60, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._begin(folder, k_bits, model)
        facts = self._facts()
        if int(facts["format"]) != FORMAT:
            raise InputError(f"{uri}: of format {facts['format']}, this version reads {FORMAT}; index again")
        self.k_bits, self.model = int(facts["k_bits"]), facts["model"]

    def _begin(self, folder: Path, k_bits: int | None, model: str) -> None:
        """Make the tables if they are missing: in a new folder, or in one that a killed process began."""
        if self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return
        if k_bits is None:
            raise InputError(f"{folder}: its index was never begun; delete the folder and index again")
        facts = {"format": FORMAT, "k_bits": k_bits, "model": model, "generation": 0, "ids": ""}
        with self.transaction():
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            values = [(name, str(value)) for name, value in facts.items()]
            self._database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", values)

    # ---- transactions ----

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Apply all of the block's changes to the database, or none."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Let everything that the block reads come from one state of the database."""
        inside = self._database.in_transaction
        if not inside:
            self._database.execute("BEGIN")
        try:
            yield
        finally:
            if not inside:
                self._database.execute("COMMIT")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Report errors of the database and the disk as `InputError`."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{self.uri}: {error}; free some space, or close what else writes to this index"
            ) from error

    # ---- changes, inside a transaction ----

    def insert(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[str | None]) -> None:
        """Insert rows, all ids being of one kind, and metadata JSON objects.

        Raises:
            InputError: an id is there already.
        """
        self._set("ids", type(ids[0]).__name__)
        width, content = codes.shape[1], np.ascontiguousarray(codes).tobytes()

        def rows() -> Iterator[tuple[Id, bytes, str | None, int]]:
            for place, row_id in enumerate(ids):
                code = content[place * width : (place + 1) * width]
                text = metadata[place]
                yield row_id, code, text, _checksum(row_id, code, text)

        try:
            self._database.executemany("INSERT INTO rows (id, code, metadata, sum) VALUES (?, ?, ?, ?)", rows())
        except sqlite3.IntegrityError as error:
            query = "SELECT id FROM rows WHERE id = ?"
            present = next(row_id for row_id in ids if self._database.execute(query, (row_id,)).fetchone())
            raise InputError(f"{self.uri}: id {present!r} is there already; delete it first") from error

    def set_metadata(self, ids: list[Id], metadata: Sequence[str | None]) -> None:
        """Replace the metadata of rows by JSON objects.

        Raises:
            InputError: an id is not there, or its row is damaged.
        """
        for row_id, text in zip(ids, metadata, strict=True):
            row = self.row(row_id)
            if row is None:
                raise InputError(f"{self.uri}: has no row of id {row_id!r}; add it first")
            values = text, _checksum(row_id, row[0], text), row_id
            self._database.execute("UPDATE rows SET metadata = ?, sum = ? WHERE id = ?", values)

    def delete(self, ids: list[Id]) -> int:
        """Delete rows and list them as dead. Returns how many of the ids were there."""
        deleted = 0
        for row_id in ids:
            row = self._database.execute("SELECT row FROM rows WHERE id = ?", (row_id,)).fetchone()
            if row:
                self._database.execute("DELETE FROM rows WHERE row = ?", row)
                self._database.execute("INSERT INTO dead VALUES (?)", row)
                deleted += 1
        return deleted

    def set_generation(self, generation: int) -> None:
        """Put the snapshot of this number into effect, which no longer holds the dead rows."""
        self._database.execute("DELETE FROM dead")
        self._set("generation", str(generation))

    # ---- reading ----

    def version(self) -> tuple[int, int]:
        """A value that differs after any change to the database, by this process or another one."""
        return self._database.execute("PRAGMA data_version").fetchone()[0], self._database.total_changes

    @property
    def generation(self) -> int:
        """Number of the snapshot in effect; 0: none."""
        return int(self._facts()["generation"])

    @property
    def id_kind(self) -> IdKind | None:
        """Kind of the ids; None before the first row."""
        return KINDS.get(self._facts()["ids"])

    def row(self, row_id: Id) -> tuple[bytes, str] | None:
        """The code and the metadata, as JSON, of an id; None if it is not there.

        Raises:
            InputError: the row is damaged.
        """
        query = "SELECT id, code, metadata, sum FROM rows WHERE id = ?"
        row = self._database.execute(query, (row_id,)).fetchone()
        if row is None:
            return None
        self._require_intact(*row)
        return row[1], row[2] or "{}"

    def rows_after(self, last_row: int) -> Iterator[tuple[list[Id], bytes, np.ndarray]]:
        """The rows with numbers above `last_row`, in order, in chunks: ids, codes end to end, row numbers int64.

        Raises:
            InputError: a row is damaged.
        """
        query = "SELECT id, code, metadata, sum, row FROM rows WHERE row > ? ORDER BY row"
        cursor = self._database.execute(query, (last_row,))
        while chunk := cursor.fetchmany(_CHUNK):
            for row_id, code, text, checksum, _ in chunk:
                self._require_intact(row_id, code, text, checksum)
            yield (
                [row[0] for row in chunk],
                b"".join(row[1] for row in chunk),
                np.fromiter((row[4] for row in chunk), np.int64),
            )

    def rows_that_pass(self, where: Sequence[Clause]) -> np.ndarray:
        """Numbers of the rows that pass all clauses of a filter, int64, rising.

        Raises:
            InputError: a row is damaged.
        """
        names = sorted({clause.name for clause in where})

        @lru_cache(_REMEMBERED)
        def passes(values: str) -> bool:
            metadata = dict(zip(names, json.loads(values), strict=False))
            return all(clause.passes(metadata) for clause in where)

        return np.fromiter((row for row, values in self._values(names) if passes(values)), np.int64)

    def _values(self, names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Row numbers, rising, and the values of these fields as a JSON array, null for those that a row lacks."""
        keys = [json.dumps(name, ensure_ascii=False) for name in names]
        if keys != [f'"{name}"' for name in names]:  # SQLite does not find names that JSON escapes
            for row, metadata in self._metadata():
                yield row, json.dumps([metadata.get(name) for name in names])
            return
        paths = [f"$.{key}" for key in (*keys, keys[0])]  # of two paths and more, SQLite makes an array
        values = f"json_extract(COALESCE(metadata, '{{}}'){', ?' * len(paths)})"
        query = f"SELECT {values}, row, id, code, metadata, sum FROM rows ORDER BY row"
        try:
            for text, row, *content in self._database.execute(query, paths):
                self._require_intact(*content)
                yield row, text
        except sqlite3.OperationalError:
            for _ in self.rows_after(0):  # names the row that is damaged
                pass
            raise

    def has_field(self, name: str) -> bool:
        """Whether the metadata of a row has a field of this name."""
        key = json.dumps(name, ensure_ascii=False) + ":"  # as it stands in the text of each row that has it
        return any(name in metadata for _, metadata in self._metadata("WHERE instr(metadata, ?)", [key]))

    def fields(self) -> set[str]:
        """The names of all fields of the metadata."""
        return {name for _, metadata in self._metadata() for name in metadata}

    def all_metadata(self, lock: AbstractContextManager[Any]) -> Iterator[list[tuple[Id, dict[str, Any]]]]:
        """Ids and metadata of all rows, in order, in chunks; each chunk is read while the lock is held."""
        query = "SELECT row, id, coalesce(metadata, '{}') FROM rows WHERE row > ? ORDER BY row LIMIT ?"
        last_row = 0
        while True:
            with lock, self.errors():
                rows = self._database.execute(query, (last_row, _METADATA_CHUNK)).fetchall()
            if not rows:
                return
            last_row = rows[-1][0]
            yield [(row_id, json.loads(text)) for _, row_id, text in rows]

    def _metadata(self, condition: str = "", values: Sequence[Any] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """Row numbers, rising, and metadata. Parsed here, as SQLite's JSON cuts strings at a null character."""
        query = f"SELECT row, id, code, metadata, sum FROM rows {condition} ORDER BY row"
        for row, *content in self._database.execute(query, values):
            self._require_intact(*content)
            yield row, json.loads(content[2] or "{}")

    def dead_rows(self) -> np.ndarray:
        """Numbers of the dead rows, int64, rising."""
        return self._numbers("SELECT row FROM dead ORDER BY row")

    def checkpoint(self) -> None:
        """Move the content of SQLite's log into the database file."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _numbers(self, query: str, values: Sequence[Any] = ()) -> np.ndarray:
        return np.fromiter((row for (row,) in self._database.execute(query, values)), np.int64)

    def _facts(self) -> dict[str, str]:
        return dict(self._database.execute("SELECT name, value FROM facts"))

    def _set(self, name: str, value: str) -> None:
        self._database.execute("UPDATE facts SET value = ? WHERE name = ? AND value <> ?", (value, name, value))

    def _require_intact(self, row_id: Id, code: bytes, text: str | None, checksum: int) -> None:
        if _checksum(row_id, code, text) != checksum:
            raise InputError(f"{self.uri}: the row of id {row_id!r} is damaged on the disk; delete it, or index again")


def _checksum(row_id: Id, code: bytes, text: str | None) -> int:
    return zlib.crc32(f"{row_id}\0{text or ''}".encode(), zlib.crc32(code))
