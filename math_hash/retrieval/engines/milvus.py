"""Beyond one machine: a collection of binary vectors in Milvus, searched by Hamming distance (pymilvus)."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from math_hash.errors import InputError, import_extra, one_line
from math_hash.retrieval.filters import Bounds, Clause, Scalar
from math_hash.retrieval.ids import KINDS, LONGEST_ID, Id, IdKind
from math_hash.retrieval.index import Index
from math_hash.retrieval.neighbors import Neighbors
from math_hash.retrieval.uri import ivf_options, uri_options

_BATCH = 5000  # rows per request; Milvus refuses requests above 64 MB
_MOST = 16384  # rows that Milvus returns for one query
_TRIES = 5
_SAMPLE = 1000  # rows whose fields a message names
_NLIST, _NPROBE = 1024, 8
_OPTIONS = {"consistency": str, "engine": str, "nlist": int, "nprobe": int, "timeout": float}
_LEVELS = ("Strong", "Bounded", "Session", "Eventually")


class MilvusIndex(Index):
    """`milvus://host:19530/collection?consistency=Session&engine=exact`. See `open_index`.

    consistency is Strong, Bounded, Session (the default: a client sees what it wrote) or Eventually; engine is exact
    (BIN_FLAT) or ivf (BIN_IVF_FLAT, with nlist and nprobe). The collection is made when the first rows are added,
    since the kind of their ids decides its key.
    """

    def __init__(self, uri: str, k_bits: int | None, model: str, create: bool):
        self.uri, options = uri_options(uri, _OPTIONS)
        address = urlsplit(self.uri)
        self.collection = address.path.strip("/")
        if not self.collection.isidentifier():
            raise InputError(f"{uri}: expected milvus://host:port/collection, the name of letters, digits and _")
        self._consistency: str = options.get("consistency", "Session")
        self._timeout: float = options.get("timeout", 60.0)
        self._ivf_options = ivf_options(uri, options)
        self._milvus = import_extra("pymilvus", "milvus", uri)
        if self._consistency not in _LEVELS:
            raise InputError(f"{uri}: consistency={self._consistency}; expected Strong, Bounded, Session or Eventually")
        server = f"http://{address.hostname or 'localhost'}:{address.port or 19530}"
        login = {"user": address.username, "password": address.password or ""} if address.username else {}
        try:
            self._client = self._milvus.MilvusClient(uri=server, timeout=min(self._timeout, 10), **login)
            is_there = self._client.has_collection(self.collection)
        except Exception as error:  # pymilvus and gRPC raise many kinds
            raise InputError(f"{self.uri}: Milvus does not answer ({one_line(error)}); is it running there?") from error
        self._id_kind: IdKind | None = None
        if is_there:
            self._read_description()
        elif create and k_bits is not None:
            self.k_bits, self.model = k_bits, model
        else:
            raise InputError(
                f"{self.uri}: no such collection; make it with `math-hash index CODES --output {self.uri}`"
            )

    def _read_description(self) -> None:
        described = self._call(self._client.describe_collection, self.collection)
        try:
            facts = json.loads(described["description"])
            self.k_bits, self.model, self._id_kind = int(facts["k_bits"]), facts["model"], KINDS[facts["ids"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.uri}: a collection that math_hash did not make; name another one") from error
        self._call(self._client.load_collection, self.collection)

    @property
    def id_kind(self) -> IdKind | None:
        """See `Index.id_kind`."""
        return self._id_kind

    def _make(self, kind: IdKind) -> None:
        types = self._milvus.DataType
        facts = {"k_bits": self.k_bits, "model": self.model, "ids": kind.__name__}
        schema = self._client.create_schema(description=json.dumps(facts), enable_dynamic_field=False)
        key = {"datatype": types.INT64} if kind is int else {"datatype": types.VARCHAR, "max_length": LONGEST_ID}
        schema.add_field("id", is_primary=True, **key)
        schema.add_field("code", types.BINARY_VECTOR, dim=-(-self.k_bits // 8) * 8)
        schema.add_field("metadata", types.JSON)
        index = self._client.prepare_index_params()
        if self._ivf_options:
            nlist = self._ivf_options.nlist or _NLIST
            index.add_index("code", metric_type="HAMMING", index_type="BIN_IVF_FLAT", params={"nlist": nlist})
        else:
            index.add_index("code", metric_type="HAMMING", index_type="BIN_FLAT", params={})
        self._call(
            self._client.create_collection, self.collection, schema=schema, index_params=index,
            consistency_level=self._consistency,
        )  # fmt: skip
        self._call(self._client.load_collection, self.collection)
        self._id_kind = kind

    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[str | None], replace: bool) -> None:
        if self._id_kind is None:
            self._make(type(ids[0]))
        if not replace and (present := self._query(ids, ["id"])):
            raise InputError(f"{self.uri}: id {next(iter(present))!r} is there already; delete it first")
        for start in range(0, len(ids), _BATCH):
            stop = min(start + _BATCH, len(ids))
            rows = [
                {"id": ids[i], "code": codes[i].tobytes(), "metadata": json.loads(metadata[i] or "{}")}
                for i in range(start, stop)
            ]
            # upsert, not insert: a second try after a lost answer does not make a row twice
            self._call(self._client.upsert, self.collection, rows)

    def _delete(self, ids: list[Id]) -> int:
        present = list(self._query(ids, ["id"]))
        for start in range(0, len(present), _BATCH):
            self._call(self._client.delete, self.collection, ids=present[start : start + _BATCH])
        return len(present)

    def _ids(self, where: list[Clause]) -> np.ndarray:
        rows = self._call(
            self._client.query_iterator, self.collection, batch_size=_BATCH, filter=_expression(where),
            output_fields=["id"], consistency_level="Strong",
        )  # fmt: skip
        ids: list[Id] = []
        while batch := rows.next():
            ids += [row["id"] for row in batch]
        rows.close()
        return np.array(ids, np.int64 if self._id_kind is int or not ids else None)

    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict[str, Any]]]:
        rows = self._query(ids, ["id", "code", "metadata"])
        return {
            row_id: (np.frombuffer(_as_bytes(row["code"]), np.uint8), row["metadata"] or {})
            for row_id, row in rows.items()
        }

    def _query(self, ids: list[Id], fields: list[str]) -> dict[Id, dict[str, Any]]:
        rows: dict[Id, dict[str, Any]] = {}
        for start in range(0, len(ids), _BATCH):
            answer = self._call(
                self._client.query, self.collection, filter=f"id in {json.dumps(ids[start : start + _BATCH])}",
                output_fields=fields, consistency_level="Strong",
            )  # fmt: skip
            rows.update((row["id"], row) for row in answer)
        return rows

    def __len__(self) -> int:
        if self._id_kind is None:
            return 0
        answer = self._call(
            self._client.query, self.collection, filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(answer[0]["count(*)"])

    def save(self) -> None:
        """Let Milvus write what it holds in memory to its storage."""
        if self._id_kind is not None:
            self._call(self._client.flush, self.collection)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _search(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> list[Neighbors]:
        if top_k > _MOST:
            raise InputError(f"{self.uri}: top_k {top_k}; Milvus returns at most {_MOST} rows per query")
        return self._neighbors(codes, top_k, where, {})

    def _search_radius(self, codes: np.ndarray, radius: int, where: list[Clause]) -> list[Neighbors]:
        # Milvus takes distances strictly below its radius, and wants it to be at most one above the length
        results = self._neighbors(codes, _MOST, where, {"radius": min(radius, self.k_bits) + 1})
        if any(len(neighbors) == _MOST for neighbors in results):
            raise InputError(f"{self.uri}: more than {_MOST} rows within radius {radius}; choose a smaller one")
        return results

    def _neighbors(self, codes: np.ndarray, limit: int, where: list[Clause], params: dict[str, int]) -> list[Neighbors]:
        if self._id_kind is None:
            return [Neighbors.empty()] * len(codes)
        if self._ivf_options:
            params = {**params, "nprobe": self._ivf_options.nprobe or _NPROBE}
        most = max(1, min(len(codes), 2 * _MOST // limit))  # queries per request, so that answers stay small
        answers: list[Any] = []
        for start in range(0, len(codes), most):
            answers += self._call(
                self._client.search, self.collection, data=[code.tobytes() for code in codes[start : start + most]],
                anns_field="code", limit=limit, filter=_expression(where), output_fields=["id"],
                search_params={"metric_type": "HAMMING", "params": params}, consistency_level=self._consistency,
            )  # fmt: skip
        dtype = np.int64 if self._id_kind is int else None
        results = []
        for hits in answers:
            ids = np.array([hit["id"] for hit in hits], dtype=dtype if len(hits) else np.int64)
            distances = np.array([round(hit["distance"]) for hit in hits], np.int64)
            order = np.argsort(distances, kind="stable")
            results.append(Neighbors(ids[order], distances[order]))
        return results

    def has_field(self, name: str) -> bool:
        """See `Index.has_field`."""
        return bool(self._some_rows(f"exists metadata[{json.dumps(name, ensure_ascii=False)}]", 1))

    def fields(self) -> set[str]:
        """See `Index.fields`."""
        return {name for row in self._some_rows("", _SAMPLE) for name in row["metadata"] or {}}

    def _some_rows(self, expression: str, limit: int) -> list[dict[str, Any]]:
        if self._id_kind is None:
            return []
        return self._call(
            self._client.query, self.collection, filter=expression, output_fields=["metadata"], limit=limit,
            consistency_level=self._consistency,
        )  # fmt: skip

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call Milvus, again after a pause where it was unavailable or overloaded for a moment."""
        for attempt in range(_TRIES):
            try:
                return function(*arguments, timeout=self._timeout, **options)
            except self._milvus.MilvusException as error:
                lost = any(word in str(error).lower() for word in ("unavailable", "rate limit", "timeout", "deadline"))
                if not lost or attempt == _TRIES - 1:
                    raise InputError(f"{self.uri}: Milvus refuses ({one_line(error)})") from error
                time.sleep(0.5 * 2**attempt)
            except Exception as error:
                raise InputError(f"{self.uri}: Milvus does not answer ({one_line(error)})") from error


def _expression(where: list[Clause]) -> str:
    """A filter in Milvus's language."""
    clauses = []
    for clause in where:
        field = f"metadata[{json.dumps(clause.name, ensure_ascii=False)}]"
        options = " or ".join(_option_expression(field, option) for option in clause.options)
        clauses.append(f"(not ({options}))" if clause.is_negated else f"({options})")
    return " and ".join(clauses)


def _option_expression(field: str, option: Scalar | Bounds) -> str:
    if isinstance(option, Bounds):
        bounds = [(sign, bound) for sign, bound in zip((">=", "<="), option, strict=True) if bound is not None]
        return f"({' and '.join(f'{field} {sign} {json.dumps(b, ensure_ascii=False)}' for sign, b in bounds)})"
    forms: list[Scalar] = [option]
    if isinstance(option, int | float) and not isinstance(option, bool) and option == int(option) < 2**53:
        forms = [int(option), float(option)]  # json_contains tells 1 from 1.0
    wanted = [json.dumps(form, ensure_ascii=False) for form in forms]
    return " or ".join([f"{field} == {wanted[0]}", *(f"json_contains({field}, {form})" for form in wanted)])


def _as_bytes(code: bytes | Sequence[bytes]) -> bytes:
    return code if isinstance(code, bytes) else b"".join(code)
