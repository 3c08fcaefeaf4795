"""Codes beside the data they belong to: a PostgreSQL table with pgvector's `bit(k)` and its Hamming distance `<~>`."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from math_hash.errors import InputError, import_extra, one_line
from math_hash.hamming.codes import unpack
from math_hash.retrieval.filters import Bounds, Clause, Scalar
from math_hash.retrieval.ids import KINDS, Id, IdKind
from math_hash.retrieval.index import Index
from math_hash.retrieval.neighbors import Neighbors
from math_hash.retrieval.uri import ivf_options, uri_options

_OPTIONS = {"table": str, "engine": str, "nlist": int, "nprobe": int}
_NPROBE = 8


class PostgreSQLIndex(Index):
    """`postgresql://user:password@host:5432/database?table=codes&engine=exact`. See `open_index`.

    engine is exact (a scan) or ivf (pgvector's IVFFlat over `bit_hamming_ops`, built by `save`, with nlist and nprobe).
    The table has columns id, code, metadata (jsonb) and position (order of insertion), and is made when the first rows
    are added, since the kind of their ids decides its key. Its comment describes it.
    """

    def __init__(self, uri: str, k_bits: int | None, model: str, create: bool):
        address, options = uri_options(uri, _OPTIONS, keep_others=True)  # the others are libpq's
        self.table: str = options.get("table", "codes")
        shown = urlsplit(re.sub("//([^/@:]*):[^/@]*@", r"//\1@", address))  # without the password
        self.uri = f"postgresql://{shown.netloc}{shown.path}?table={self.table}"
        self._ivf_options = ivf_options(self.uri, options)
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", self.table):
            raise InputError(f"{self.uri}: table={self.table}; expected small letters, digits and _")
        self._psycopg = psycopg = import_extra("psycopg", "postgresql", self.uri)
        try:
            self._connection = psycopg.connect(address, connect_timeout=10, autocommit=True)
        except psycopg.Error as error:
            raise InputError(
                f"{self.uri}: PostgreSQL does not answer ({one_line(error)}); is it running there?"
            ) from error
        self._id_kind: IdKind | None = None
        try:
            if not self._read_comment():
                if not create or k_bits is None:
                    raise InputError(
                        f"{self.uri}: no such table; make it with `math-hash index CODES --output {self.uri}`"
                    )
                self.k_bits, self.model = k_bits, model
        except InputError:
            self._connection.close()
            raise

    def _read_comment(self) -> bool:
        """Read what the table's comment says about it; False if there is no such table."""
        with self._errors():
            query = "SELECT obj_description(to_regclass(%s)), to_regclass(%s)"
            text, table = self._connection.execute(query, [self.table] * 2).fetchone()
        if table is None:
            return False
        try:
            facts = json.loads(text)
            self.k_bits, self.model, self._id_kind = int(facts["k_bits"]), facts["model"], KINDS[facts["ids"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.uri}: a table that math_hash did not make; name another with ?table=") from error
        return True

    @property
    def id_kind(self) -> IdKind | None:
        """See `Index.id_kind`."""
        return self._id_kind

    def _make(self, kind: IdKind) -> None:
        facts = json.dumps({"k_bits": self.k_bits, "model": self.model, "ids": kind.__name__})
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self._connection.execute(
            f"CREATE TABLE {self.table} (id {'bigint' if kind is int else 'text'} PRIMARY KEY, "
            f"code bit({self.k_bits}) NOT NULL, metadata jsonb NOT NULL, position bigserial)"
        )
        self._connection.execute(f"COMMENT ON TABLE {self.table} IS {self._psycopg.sql.quote(facts)}")
        self._id_kind = kind

    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[str | None], replace: bool) -> None:
        is_new = self._id_kind is None
        try:
            with self._errors(), self._connection.transaction():
                if is_new:
                    self._make(type(ids[0]))
                if replace:
                    self._delete(ids)
                copy = f"COPY {self.table} (id, code, metadata) FROM STDIN"
                with self._connection.cursor() as cursor, cursor.copy(copy) as rows:
                    for place, (row_id, digits) in enumerate(zip(ids, self._as_digits(codes), strict=True)):
                        rows.write_row((row_id, digits, metadata[place] or "{}"))
        except InputError:
            if is_new:
                self._id_kind = None
            raise

    def _delete(self, ids: list[Id]) -> int:
        with self._errors():
            return self._connection.execute(f"DELETE FROM {self.table} WHERE id = ANY(%s)", [ids]).rowcount

    def _ids(self, where: list[Clause]) -> np.ndarray:
        [everything] = self._neighbors(np.zeros((1, -(-self.k_bits // 8)), np.uint8), where, None, "")
        return everything.ids

    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict[str, Any]]]:
        with self._errors():
            rows = self._connection.execute(
                f"SELECT id, code::text, metadata FROM {self.table} WHERE id = ANY(%s)", [ids]
            )
            return {row_id: (_packed(digits), metadata) for row_id, digits, metadata in rows}

    def __len__(self) -> int:
        if self._id_kind is None:
            return 0
        with self._errors():
            return self._connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]

    def save(self) -> None:
        """With engine=ivf, build the approximate index over all rows."""
        if self._ivf_options and self._id_kind is not None:
            lists = self._ivf_options.nlist or max(1, int(len(self) ** 0.5))
            with self._errors(), self._connection.transaction():
                self._connection.execute(f"DROP INDEX IF EXISTS {self.table}_code")
                self._connection.execute(
                    f"CREATE INDEX {self.table}_code ON {self.table} USING ivfflat (code bit_hamming_ops) "
                    f"WITH (lists = {lists})"
                )
        elif self._id_kind is not None:
            with self._errors():
                self._connection.execute(f"ANALYZE {self.table}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _search(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> list[Neighbors]:
        # with a second sorting key the approximate index cannot be used
        order = "distance" if self._ivf_options else "distance, position"
        return self._neighbors(codes, where, None, f"ORDER BY {order} LIMIT {int(top_k)}")

    def _search_radius(self, codes: np.ndarray, radius: int, where: list[Clause]) -> list[Neighbors]:
        return self._neighbors(codes, where, radius, "ORDER BY distance, position")

    def _neighbors(self, codes: np.ndarray, where: list[Clause], radius: int | None, order: str) -> list[Neighbors]:
        if self._id_kind is None:
            return [Neighbors.empty()] * len(codes)
        distance = f"code <~> %s::bit({self.k_bits})"
        conditions, values = _conditions(where)
        clauses = ["true", *conditions]
        if radius is not None:
            clauses.append(f"{distance} <= %s")
        query = f"SELECT id, {distance} AS distance FROM {self.table} WHERE {' AND '.join(clauses)} {order}"
        results = []
        with self._errors(), self._connection.transaction():
            if self._ivf_options:
                self._connection.execute(f"SET LOCAL ivfflat.probes = {self._ivf_options.nprobe or _NPROBE}")
            for digits in self._as_digits(codes):
                within = () if radius is None else (digits, radius)
                rows = self._connection.execute(query, [digits, *values, *within]).fetchall()
                ids = np.array([row[0] for row in rows], np.int64 if self._id_kind is int or not rows else None)
                results.append(Neighbors(ids, np.array([row[1] for row in rows], np.int64)))
        return results

    def has_field(self, name: str) -> bool:
        """See `Index.has_field`."""
        if self._id_kind is None:
            return False
        query = f"SELECT EXISTS (SELECT 1 FROM {self.table} WHERE jsonb_exists(metadata, %s))"
        with self._errors():
            return self._connection.execute(query, [name]).fetchone()[0]

    def fields(self) -> set[str]:
        """See `Index.fields`."""
        with self._errors():
            rows = self._connection.execute(f"SELECT DISTINCT jsonb_object_keys(metadata) FROM {self.table}")
            return {name for (name,) in rows}

    def _as_digits(self, codes: np.ndarray) -> list[str]:
        """Packed codes as PostgreSQL writes bits: strings of 0 and 1."""
        digits = np.where(unpack(codes, self.k_bits), np.uint8(ord("1")), np.uint8(ord("0")))
        return [row.tobytes().decode() for row in digits]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.errors.UniqueViolation as error:
            match = re.search(r"\(id\)=\((.*)\)", str(error))
            raise InputError(f"{self.uri}: id {match and match[1]} is there already; delete it first") from error
        except self._psycopg.Error as error:
            raise InputError(f"{self.uri}: PostgreSQL refuses ({one_line(error)})") from error


def _conditions(where: list[Clause]) -> tuple[list[str], list[Any]]:
    """A filter in SQL: conditions, all of which have to hold, and the values of their parameters."""
    conditions: list[str] = []
    values: list[Any] = []
    for clause in where:
        parts = []
        for option in clause.options:
            part, its_values = _option_condition(clause.name, option)
            parts.append(part)
            values += its_values
        negation = "NOT " if clause.is_negated else ""
        conditions.append(f"{negation}COALESCE({' OR '.join(parts)}, false)")
    return conditions, values


def _option_condition(name: str, option: Scalar | Bounds) -> tuple[str, list[Any]]:
    if not isinstance(option, Bounds):
        return "metadata -> %s @> %s::jsonb", [name, json.dumps(option)]
    kind = "string" if any(isinstance(bound, str) for bound in option) else "number"
    parts: list[str] = [f"jsonb_typeof(metadata -> %s) = '{kind}'"]
    values: list[Any] = [name]
    for sign, bound in zip((">=", "<="), option, strict=True):
        if bound is not None and kind == "string":
            parts.append(f'(metadata ->> %s) COLLATE "C" {sign} %s')
            values += [name, bound]
        elif bound is not None:
            parts.append(f"metadata -> %s {sign} %s::jsonb")
            values += [name, json.dumps(bound)]
    return f"({' AND '.join(parts)})", values


def _packed(digits: str) -> np.ndarray:
    return np.packbits(np.frombuffer(digits.encode(), np.uint8) == ord("1"))
