"""The store of an embedded index: one SQLite database, `rows.sqlite`, which is the truth.

Changes are durable when their transaction ends. Each row carries a checksum, which is compared whenever it is read.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.files import identity_of
from math_hash.retrieval.engines.embedded.checksum import checksum, is_intact
from math_hash.retrieval.engines.embedded.folder import DATABASE, require_no_snapshot
from math_hash.retrieval.engines.embedded.stored_metadata import StoredMetadata
from math_hash.retrieval.ids import KINDS, Id, IdKind

FORMAT = 1
_CHUNK = 100_000  # rows read at once
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

    A thread that works with it holds it by `with store:`, which may be nested. Inside, errors of the database and the
    disk become `InputError`, also that the database was deleted.

    Attributes:
        uri: name of the index in messages.
        k_bits: length of the codes.
        model: fingerprint of the model that made them, or "".
        metadata: reads the rows' metadata.
    """

    def __init__(self, folder: Path, uri: str, k_bits: int | None, model: str):
        """Open the database in `folder`, or make it.

        Raises:
            InputError: it is of another format, or is empty and `k_bits` is None.
            sqlite3.Error, OSError, KeyError, ValueError: it is damaged, or cannot be written.
        """
        self.uri, self._path, self._lock = uri, folder / DATABASE, RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path, timeout=60, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        begun = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone()
        if not begun or not self._facts()["ids"]:
            require_no_snapshot(folder, uri)
        if not begun:
            self._begin(folder, k_bits, model)
        facts = self._facts()
        if int(facts["format"]) != FORMAT:
            raise InputError(f"{uri}: of format {facts['format']}, this version reads {FORMAT}; index again")
        self.k_bits, self.model = int(facts["k_bits"]), facts["model"]
        self._identity = identity_of(self._path)
        self.metadata = StoredMetadata(self._database, self)

    def _begin(self, folder: Path, k_bits: int | None, model: str) -> None:
        """Make the tables: in a new folder, or in one that a killed process began."""
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

    def __enter__(self) -> "Store":
        self._lock.acquire()
        if identity_of(self._path) != self._identity:
            self._lock.release()
            raise InputError(f"{self.uri}: was deleted or replaced since it was opened; open it again")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
        if isinstance(error, sqlite3.Error | OSError):
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
        width, content, row_id = codes.shape[1], np.ascontiguousarray(codes).tobytes(), ids[0]

        def rows() -> Iterator[tuple[Id, bytes, str | None, int]]:
            nonlocal row_id
            for place, row_id in enumerate(ids):
                code = content[place * width : (place + 1) * width]
                text = metadata[place]
                yield row_id, code, text, checksum(row_id, code, text)

        try:
            self._database.executemany("INSERT INTO rows (id, code, metadata, sum) VALUES (?, ?, ?, ?)", rows())
        except sqlite3.IntegrityError as error:
            raise InputError(f"{self.uri}: id {row_id!r} is there already; delete it first") from error

    def set_metadata(self, ids: list[Id], metadata: Sequence[str | None]) -> None:
        """Replace the metadata of rows by JSON objects.

        Raises:
            InputError: an id is not there, or its row is damaged.
        """
        for row_id, text in zip(ids, metadata, strict=True):
            row = self.row(row_id)
            if row is None:
                raise InputError(f"{self.uri}: has no row of id {row_id!r}; add it first")
            values = text, checksum(row_id, row[0], text), row_id
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

    def set_unfinished(self, source: str) -> None:
        """Record what is being put in, until that is finished: "" for nothing."""
        self._set("unfinished", source)

    # ---- reading ----

    @property
    def unfinished(self) -> str:
        """What `set_unfinished` recorded last."""
        return self._facts().get("unfinished", "")

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

    def rows_after(self, last_row: int, damaged: list[Any]) -> Iterator[tuple[list[Id], bytes, np.ndarray]]:
        """The rows with numbers above `last_row`, in order, in chunks: ids, codes end to end, row numbers int64.

        Damaged rows are left out; their ids are added to `damaged`.
        """
        query = "SELECT id, code, metadata, sum, row FROM rows WHERE row > ? ORDER BY row"
        cursor = self._database.execute(query, (last_row,))
        while chunk := cursor.fetchmany(_CHUNK):
            damaged += [row[0] for row in chunk if not is_intact(*row[:4])]
            if rows := [row for row in chunk if is_intact(*row[:4])] if damaged else chunk:
                ids, codes, _, _, numbers = zip(*rows, strict=True)
                yield list(ids), b"".join(codes), np.array(numbers, np.int64)

    def dead_rows(self) -> np.ndarray:
        """Numbers of the dead rows, int64, rising."""
        return self._numbers("SELECT row FROM dead ORDER BY row")

    def damage(self) -> str:
        """What SQLite finds wrong with its file; "" for nothing."""
        try:
            found = "; ".join(str(row[0]) for row in self._database.execute("PRAGMA integrity_check(3)"))
        except sqlite3.Error as error:
            found = str(error)
        return "" if found == "ok" else " ".join(found.split())

    def checkpoint(self) -> None:
        """Move the content of SQLite's log into the database file."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _numbers(self, query: str, values: Sequence[Any] = ()) -> np.ndarray:
        return np.fromiter((row for (row,) in self._database.execute(query, values)), np.int64)

    def _facts(self) -> dict[str, str]:
        return dict(self._database.execute("SELECT name, value FROM facts"))

    def _set(self, name: str, value: str) -> None:
        change = "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value"
        self._database.execute(f"INSERT INTO facts VALUES (?, ?) {change}", (name, value))

    def _require_intact(self, row_id: Id, *content: Any) -> None:
        if not is_intact(row_id, *content):
            raise InputError(
                f"{self.uri}: the row of id {row_id!r} is damaged on the disk; delete it, or keep the others with "
                f"`math-hash index --repair {self.uri}`"
            )
