"""Reading the metadata of an embedded index's rows: filters, fields, and all of it."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np

from math_hash.retrieval.engines.embedded.checksum import is_intact
from math_hash.retrieval.filters import Clause
from math_hash.retrieval.ids import Id

_REMEMBERED = 100_000  # different values whose passing a filter is remembered
_CHUNK = 5000  # rows whose metadata is read at once: searches wait for it


class StoredMetadata:
    """The metadata of the rows of `rows.sqlite`; damaged rows are left out.

    Args:
        database: the connection.
        store: held by the thread that reads, see `Store`.
    """

    def __init__(self, database: sqlite3.Connection, store: AbstractContextManager[Any]):
        self._database, self._store = database, store
        self._known: set[str] = set()  # fields that some row has

    def rows_that_pass(self, where: Sequence[Clause]) -> np.ndarray:
        """Numbers of the rows that pass all clauses of a filter, int64, rising; none that is damaged."""
        names = sorted({clause.name for clause in where})

        @lru_cache(_REMEMBERED)
        def passes(values: str) -> bool:
            metadata = dict(zip(names, json.loads(values), strict=False))
            return all(clause.passes(metadata) for clause in where)

        try:
            passing = np.fromiter((row for row, values in self._values(names) if passes(values)), np.int64)
        except sqlite3.OperationalError:  # the metadata of a damaged row is no JSON
            all_rows = self._all()
            passing = np.fromiter((row for row, object in all_rows if all(c.passes(object) for c in where)), np.int64)
        numbers, counts = np.unique(passing, return_counts=True)
        return numbers[counts == 1]  # of two rows with one number, one is damaged: no checksum has the number

    def _values(self, names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Row numbers, rising, and the values of these fields as a JSON array, null for those that a row lacks."""
        keys = [json.dumps(name, ensure_ascii=False) for name in names]
        if keys != [f'"{name}"' for name in names]:  # SQLite does not find names that JSON escapes
            for row, metadata in self._all():
                yield row, json.dumps([metadata.get(name) for name in names])
            return
        paths = [f"$.{key}" for key in (*keys, keys[0])]  # of two paths and more, SQLite makes an array
        values = f"json_extract(COALESCE(metadata, '{{}}'){', ?' * len(paths)})"
        query = f"SELECT {values}, row, id, code, metadata, sum FROM rows ORDER BY row"
        yield from ((row, text) for text, row, *rest in self._database.execute(query, paths) if is_intact(*rest))

    def forget(self) -> None:
        """Forget which fields there are: rows have changed."""
        self._known = set()

    def has_field(self, name: str) -> bool:
        """Whether the metadata of a row has a field of this name."""
        if name not in self._known:
            key = json.dumps(name, ensure_ascii=False) + ":"  # as it stands in the text of each row that has it
            if any(name in metadata for _, metadata in self._all("WHERE instr(metadata, ?)", [key])):
                self._known.add(name)
        return name in self._known

    def fields(self) -> set[str]:
        """The names of all fields of the metadata."""
        return {name for _, metadata in self._all() for name in metadata}

    def chunks(self) -> Iterator[list[tuple[Id, dict[str, Any]]]]:
        """Ids and metadata of all rows, in order, in chunks; the store is held while one is read."""
        query = "SELECT row, id, code, metadata, sum FROM rows WHERE row > ? ORDER BY row LIMIT ?"
        last_row = 0
        while True:
            with self._store:
                rows = self._database.execute(query, (last_row, _CHUNK)).fetchall()
            if not rows:
                return
            last_row = rows[-1][0]
            yield [(row[0], json.loads(row[2] or "{}")) for _, *row in rows if is_intact(*row)]

    def _all(self, condition: str = "", values: Sequence[Any] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """Row numbers, rising, and metadata. Parsed here, as SQLite's JSON cuts strings at a null character."""
        query = f"SELECT row, id, code, metadata, sum FROM rows {condition} ORDER BY row"
        for row, *content in self._database.execute(query, values):
            if is_intact(*content):
                yield row, json.loads(content[2] or "{}")
