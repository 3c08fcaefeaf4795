"""The embedded engine: one folder, exact search by a scan, approximate search by FAISS where asked for.

`rows.sqlite` is the truth: each call that changes rows is one durable SQLite transaction. Beside it a *snapshot*
(memory-mapped arrays of codes, ids and row numbers, with SHA-256 sums) is what searches read; rows added since are
searched from memory. A snapshot that is missing or damaged is made again from `rows.sqlite`, whose rows carry sums too.
"""

import json
import os
import shutil
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import InputError, import_extra
from math_hash.files import atomic_folder, read_json, require_sums, sums_of, write_text
from math_hash.hamming import scan
from math_hash.retrieval.engines.embedded import ivf
from math_hash.retrieval.engines.embedded.segment import Segment
from math_hash.retrieval.index import KINDS, Id, Index, Neighbors, ivf_options, uri_options

FORMAT = 1
_CHUNK = 100_000  # rows read at once
_UNSAVED = 1 << 16  # rows kept in memory before a snapshot is taken by itself
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id NOT NULL UNIQUE, code BLOB NOT NULL, metadata TEXT, sum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dead (row INTEGER PRIMARY KEY);
"""


class EmbeddedIndex(Index):
    """See the module and `open_index`."""

    def __init__(self, uri: str, k_bits: int | None, model: str, create: bool):
        folder, options = uri_options(uri, {"engine": str, "nlist": int, "nprobe": int})
        self.uri, self.folder = folder, Path(folder)
        self._ivf_options = ivf_options(uri, options)
        if self._ivf_options:
            import_extra("faiss", "search", uri)
        self._lock = threading.RLock()
        database = self.folder / "rows.sqlite"
        is_new = not database.exists()
        if is_new:
            if not create or k_bits is None:
                raise InputError(f"{folder}: no index is there; make one with `math-hash index CODES --to {folder}`")
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise InputError(f"{folder}: is there already and is no index; name another folder")
        try:
            if is_new:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(database, timeout=60, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._begin(k_bits, model)
            facts = self._facts()
            if int(facts["format"]) != FORMAT:
                raise InputError(f"{folder}: of format {facts['format']}, this version reads {FORMAT}; index again")
            self.k_bits, self.model = int(facts["k_bits"]), facts["model"]
            self._seen, self._generation = None, None
            self._refresh()
        except (sqlite3.Error, KeyError, ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder}: cannot be opened as an index ({error}); index again") from error

    def _begin(self, k_bits: int | None, model: str) -> None:
        """Make the tables where they are not there: in a new folder, or in one whose maker was killed."""
        if self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return
        if k_bits is None:
            raise InputError(f"{self.folder}: its index was never begun; delete the folder and index again")
        facts = {"format": FORMAT, "k_bits": k_bits, "model": model, "generation": 0, "ids": ""}
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            rows = [(name, str(value)) for name, value in facts.items()]
            self._database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", rows)

    # ---- changes ----

    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[Mapping | None] | None) -> None:
        width = codes.shape[1]
        content = np.ascontiguousarray(codes).tobytes()

        def rows():
            for place, found in enumerate(ids):
                code = content[place * width : (place + 1) * width]
                about = _as_json(found, metadata[place]) if metadata is not None and metadata[place] else None
                yield found, code, about, _sum(found, code, about)

        with self._lock, self._errors():
            with self._transaction():
                self._require_kind(ids)  # once more: another process may have added the first rows just now
                self._set("ids", type(ids[0]).__name__)
                try:
                    self._database.executemany("INSERT INTO rows (id, code, metadata, sum) VALUES (?, ?, ?, ?)", rows())
                except sqlite3.IntegrityError as error:
                    raise InputError(
                        f"{self.uri}: id {self._present(ids)!r} is there already; delete it first"
                    ) from error
            self._refresh()
            if len(self._tail.rows) > max(_UNSAVED, len(self._snapshot.rows) // 4):
                try:
                    self.save()
                except InputError as error:  # the rows are safe already
                    warnings.warn(f"{self.uri}: no snapshot was written ({error})", stacklevel=3)

    def _present(self, ids: list[Id]) -> Id:
        find = "SELECT id FROM rows WHERE id = ?"
        return next(found for found in ids if self._database.execute(find, (found,)).fetchone())

    def _delete(self, ids: list[Id]) -> int:
        with self._lock, self._errors():
            with self._transaction():
                removed = 0
                for found in ids:
                    row = self._database.execute("SELECT row FROM rows WHERE id = ?", (found,)).fetchone()
                    if row:
                        self._database.execute("DELETE FROM rows WHERE row = ?", row)
                        self._database.execute("INSERT INTO dead VALUES (?)", row)
                        removed += 1
            self._refresh()
        return removed

    def save(self) -> None:
        """Write a new snapshot of all rows; with `engine=ivf`, the approximate index too, and measure its recall."""
        with self._lock, self._errors(), self._transaction():
            self._refresh()
            parts = (self._snapshot, self._tail)
            unchanged = not len(self._tail.rows) and not any(part.dead is not None for part in parts)
            if unchanged and self._generation and not ivf.is_outdated(self._ivf_options, self._snapshot.ivf):
                return
            generation, before = self._generation + 1, self._generation
            with atomic_folder(self._snapshot_folder(generation)) as folder:
                alive = [slice(None) if part.dead is None else ~part.dead for part in parts]
                arrays = {
                    "codes": np.concatenate([p.codes[:, keep] for p, keep in zip(parts, alive, strict=True)], axis=1),
                    "ids": np.concatenate([p.ids[keep] for p, keep in zip(parts, alive, strict=True)]),
                    "rows": np.concatenate([p.rows[keep] for p, keep in zip(parts, alive, strict=True)]),
                }
                for name, array in arrays.items():
                    with open(folder / f"{name}.npy", "wb") as file:
                        np.save(file, array, allow_pickle=False)
                        file.flush()
                        os.fsync(file.fileno())
                facts = {"format": FORMAT, "k_bits": self.k_bits, "model": self.model, "count": len(arrays["rows"])}
                facts["last_row"] = int(max(self._last_row(part) for part in parts))
                if self._ivf_options:
                    facts["ivf"] = ivf.build(folder / "ivf.faiss", arrays["codes"], self.k_bits, self._ivf_options)
                facts["sha256"] = sums_of(folder)
                write_text(folder / "manifest.json", json.dumps(facts, indent=2) + "\n")
            self._database.execute("DELETE FROM dead")
            self._set("generation", str(generation))
        with self._lock, self._errors():
            self._refresh()
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if before:
                shutil.rmtree(self._snapshot_folder(before), ignore_errors=True)

    def close(self) -> None:
        """Close the files. Rows that no snapshot holds yet are read again from the database when it is opened."""
        with self._lock:
            self._database.close()

    # ---- searches ----

    def _search(self, codes: np.ndarray, top_k: int, where: Mapping[str, Any] | None) -> list[Neighbors]:
        with self._lock, self._errors():
            self._refresh()
            parts = self._parts(where)
            found = [part.nearest(codes, top_k, self.k_bits) for part in parts]
            offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
            if len(found) == 1:
                places, distances = found[0]
            else:
                places = np.concatenate(
                    [np.where(p < 0, -1, p + o) for (p, _), o in zip(found, offsets, strict=True)], 1
                )
                places, distances = scan.merge(places, np.concatenate([d for _, d in found], axis=1), top_k)
            ids, distances = self._ids(parts, places), distances.astype(np.int64)
            if (places >= 0).all():
                return [Neighbors(*pair) for pair in zip(ids, distances, strict=True)]
            return [Neighbors(i[p >= 0], d[p >= 0]) for i, d, p in zip(ids, distances, places, strict=True)]

    def _search_radius(self, codes: np.ndarray, radius: int, where: Mapping[str, Any] | None) -> list[Neighbors]:
        with self._lock, self._errors():
            self._refresh()
            parts, results = self._parts(where), []
            offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
            for code in codes:
                found = [scan.within(code, part.codes, radius, part.dead) for part in parts]
                places = np.concatenate([p + o for (p, _), o in zip(found, offsets, strict=True)])
                distances = np.concatenate([d for _, d in found])
                order = np.argsort(distances, kind="stable")
                results.append(Neighbors(self._ids(parts, places[order]), distances[order].astype(np.int64)))
            return results

    def _parts(self, where: Mapping[str, Any] | None) -> list[Segment]:
        """What to scan: the snapshot and the rows since, or, with a filter, a gathered copy of the rows that pass."""
        parts = [part for part in (self._snapshot, self._tail) if len(part)] or [self._snapshot]
        if not where:
            return parts
        key = json.dumps(dict(where), sort_keys=True, default=str)
        if key not in self._filtered:
            clauses, values = [], []
            for name, value in where.items():
                kinds = (
                    "IN ('true', 'false')" if isinstance(value, bool) else "NOT IN ('true', 'false', 'array', 'object')"
                )
                clauses.append(f"EXISTS (SELECT 1 FROM json_each(metadata, ?) WHERE value = ? AND type {kinds})")
                values += [f'$."{name}"', int(value) if isinstance(value, bool) else value]
            query = f"SELECT row FROM rows WHERE {' AND '.join(clauses)} ORDER BY row"
            rows = np.fromiter((row for (row,) in self._database.execute(query, values)), np.int64)
            chosen = [part.only(rows) for part in parts]
            self._filtered = {key: chosen}  # the last filter: pages and sliders ask it again and again
        return self._filtered[key]

    def _ids(self, parts: list[Segment], places: np.ndarray) -> np.ndarray:
        if len(parts) == 1:
            ids = parts[0].ids[places] if len(parts[0]) else np.empty(places.shape, parts[0].ids.dtype)
        else:
            first = len(parts[0])
            ids = np.where(
                places < first, parts[0].ids[np.minimum(places, first - 1)], parts[1].ids[np.maximum(places - first, 0)]
            )
        return ids if ids.dtype.kind == "i" else np.char.decode(ids, "utf-8")

    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict]]:
        with self._lock, self._errors():
            found, query = {}, "SELECT id, code, metadata, sum FROM rows WHERE id = ?"
            for wanted in ids:
                if row := self._database.execute(query, (wanted,)).fetchone():
                    _, code, about = self._intact(*row)
                    found[wanted] = np.frombuffer(code, np.uint8), json.loads(about or "{}")
            return found

    @property
    def id_kind(self) -> type | None:
        """See `Index.id_kind`."""
        with self._lock, self._errors():
            return KINDS.get(self._facts()["ids"])

    def __len__(self) -> int:
        with self._lock, self._errors():
            self._refresh()
            return sum(
                len(part) - (0 if part.dead is None else int(part.dead.sum())) for part in (self._snapshot, self._tail)
            )

    @property
    def recall(self) -> float | None:
        """Of approximate search, measured when it was built: the share of the true 10 nearest that it finds."""
        return self._snapshot.ivf and self._snapshot.ivf.recall

    # ---- keeping up with the database ----

    def _refresh(self) -> None:
        """Read what changed in the database since, by this process or another one."""
        inside = self._database.in_transaction
        version = self._database.execute("PRAGMA data_version").fetchone()[0], self._database.total_changes
        if version == self._seen:
            return
        if not inside:
            self._database.execute("BEGIN")  # one state of the database for all that is read
        try:
            facts = self._facts()
            if self._generation != int(facts["generation"]):
                self._generation = int(facts["generation"])
                self._snapshot, last_row = self._read_snapshot()
                self._tail = Segment.empty(self._words, self._snapshot.ids.dtype)
                self._tail_start = last_row
            self._read_tail("S1" if facts["ids"] == "str" else np.int64)
            dead = np.fromiter(
                (row for (row,) in self._database.execute("SELECT row FROM dead ORDER BY row")), np.int64
            )
            for part in (self._snapshot, self._tail):
                part.bury(dead)
            self._filtered = {}
            self._seen = version
        finally:
            if not inside:
                self._database.execute("COMMIT")

    @property
    def _words(self) -> int:
        return -(-self.k_bits // 64)

    def _last_row(self, part: Segment) -> int:
        return int(part.rows[-1]) if len(part.rows) else (self._tail_start if part is self._tail else 0)

    def _read_tail(self, dtype) -> None:
        last = max(self._tail_start, self._last_row(self._tail))
        query = "SELECT id, code, metadata, sum, row FROM rows WHERE row > ? ORDER BY row"
        cursor, parts = self._database.execute(query, (last,)), [self._tail] if len(self._tail.rows) else []
        while chunk := cursor.fetchmany(_CHUNK):
            codes = b"".join(self._intact(*row[:4])[1] for row in chunk)
            ids = [row[0] for row in chunk] if dtype is np.int64 else [row[0].encode() for row in chunk]
            parts.append(
                Segment(
                    scan.as_planes(np.frombuffer(codes, np.uint8).reshape(len(chunk), -1)),
                    np.array(ids, dtype=np.int64 if dtype is np.int64 else None),
                    np.fromiter((row[4] for row in chunk), np.int64),
                )
            )
        if parts:
            self._tail = Segment(
                np.concatenate([part.codes for part in parts], axis=1),
                np.concatenate([part.ids for part in parts]),
                np.concatenate([part.rows for part in parts]),
            )
        elif not len(self._tail.rows):
            self._tail = Segment.empty(self._words, np.dtype(dtype))
            if not len(self._snapshot.rows):
                self._snapshot = Segment.empty(self._words, np.dtype(dtype))

    def _read_snapshot(self) -> tuple[Segment, int]:
        folder = self._snapshot_folder(self._generation)
        if not self._generation:
            return Segment.empty(self._words, np.dtype(np.int64)), 0
        try:
            facts = read_json(folder / "manifest.json")
            require_sums(folder, facts["sha256"])
            arrays = [
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("codes", "ids", "rows")
            ]
            approximate = (
                ivf.read(folder / "ivf.faiss", facts["ivf"], self._ivf_options)
                if self._ivf_options and "ivf" in facts
                else None
            )
            return Segment(*arrays, ivf=approximate), facts["last_row"]
        except (InputError, OSError, ValueError, KeyError) as error:
            warnings.warn(f"{folder}: damaged ({error}); reading all rows from rows.sqlite instead", stacklevel=2)
            return Segment.empty(self._words, np.dtype(np.int64)), 0

    def _snapshot_folder(self, generation: int) -> Path:
        return self.folder / f"snapshot-{generation}"

    def _intact(self, found: Id, code: bytes, about: str | None, wanted: int) -> tuple:
        if _sum(found, code, about) != wanted:
            raise InputError(f"{self.uri}: the row of id {found!r} is damaged on the disk; delete it, or index again")
        return found, code, about

    def _facts(self) -> dict[str, str]:
        return dict(self._database.execute("SELECT name, value FROM facts"))

    def _set(self, name: str, value: str) -> None:
        self._database.execute("UPDATE facts SET value = ? WHERE name = ? AND value <> ?", (value, name, value))

    @contextmanager
    def _transaction(self):
        """All of the block's changes to the database, or none."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self):
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{self.uri}: {error}; free some space, or close what else writes to this index"
            ) from error


def _as_json(found: Id, about: Mapping) -> str:
    try:
        return json.dumps(dict(about), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata of id {found!r}: {error}; expected a JSON object") from error


def _sum(found: Id, code: bytes, about: str | None) -> int:
    return zlib.crc32(f"{found}\0{about or ''}".encode(), zlib.crc32(code))
