"""One interface to every engine that holds codes and finds the nearest ones."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np

from math_hash.errors import InputError

Id = int | str
KINDS = {"int": int, "str": str}
LONGEST_ID = 256  # bytes


@dataclass(frozen=True)
class Neighbors:
    """What a query found, sorted by distance.

    ids: of the rows found; an array of int64, or of str.
    distances: their Hamming distances, int64.
    """

    ids: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class Index(ABC):
    """Codes with ids and metadata, searched by Hamming distance. `open_index` gives one.

    Ids are integers (below 2^63) or strings, one kind an index. Metadata is a JSON object a row. A filter `where` is a
    mapping from names to values: a row passes where each named value of its metadata equals the wanted one, or is a
    list that holds it. All calls may come from several threads.

    Attributes:
        uri: where it is.
        k_bits: length of the codes.
        model: fingerprint of the model whose codes it holds; "" where nobody said.
        id_kind: int or str; None while it has no rows yet.
    """

    uri: str
    k_bits: int
    model: str
    id_kind: type | None

    def add(self, ids: Sequence[Id], codes: np.ndarray, metadata: Sequence[Mapping | None] | None = None) -> None:
        """Add rows. When it returns, they are safe; if it fails, none or whole batches of them are there.

        Args:
            ids: n ids that are not in the index yet.
            codes: packed, uint8 (n, ceil(k_bits / 8)).
            metadata: n JSON objects, or None for a row without.

        Raises:
            InputError: codes are of another length, an id is of another kind or is there already, metadata is no
                JSON object, lengths differ, or the engine refuses.
        """
        ids, codes = _checked_ids(ids), self._checked(codes)
        if len(ids) != len(codes) or (metadata is not None and len(metadata) != len(ids)):
            metadatas = "" if metadata is None else f", {len(metadata)} metadata objects"
            raise InputError(f"add: {len(ids)} ids, {len(codes)} codes{metadatas}; expected as many of each")
        if len(set(ids)) != len(ids):
            raise InputError("add: an id stands twice among those to add; expected each once")
        if ids:
            self._require_kind(ids)
            self._add(ids, codes, metadata)

    def search(self, codes: np.ndarray, top_k: int = 10, where: Mapping[str, Any] | None = None) -> list[Neighbors]:
        """The nearest rows of each query.

        Args:
            codes: of the queries, packed, uint8 (q, ceil(k_bits / 8)).
            top_k: how many; fewer come back where fewer rows are there (or pass the filter).
            where: see the class.

        Returns:
            One for each query, sorted by distance. The embedded engine orders ties by insertion; elsewhere ids may
            differ within a tie at the last place.

        Raises:
            InputError: codes are of another length, or the engine refuses.
        """
        if top_k < 1:
            raise InputError(f"search: top_k {top_k}; expected 1 or more")
        codes, where = self._checked(codes), _checked_filter(where)
        return self._search(codes, top_k, where) if len(codes) else []

    def search_radius(self, codes: np.ndarray, radius: int, where: Mapping | None = None) -> list[Neighbors]:
        """All rows at a distance <= `radius` of each query, sorted by distance. Otherwise as `search`."""
        if radius < 0:
            raise InputError(f"search_radius: radius {radius}; expected 0 or more")
        codes, where = self._checked(codes), _checked_filter(where)
        return self._search_radius(codes, radius, where) if len(codes) else []

    def delete(self, ids: Sequence[Id]) -> int:
        """Remove rows. Returns how many of the ids were there."""
        possible = self._possible(_plain(ids))
        return self._delete(possible) if possible else 0

    def rows(self, ids: Sequence[Id]) -> list[tuple[np.ndarray, dict] | None]:
        """The packed code and the metadata of each id; None where it is not there."""
        ids = _plain(ids)
        possible = self._possible(ids)
        found = self._rows(possible) if possible else {}
        return [found.get(wanted) for wanted in ids]

    @abstractmethod
    def __len__(self) -> int:
        """Rows that are there."""

    @abstractmethod
    def save(self) -> None:
        """Make searching and opening fast again after changes, where the engine can. Nothing is lost without it."""

    def close(self) -> None:  # noqa: B027 - an engine may have nothing to close
        """Let go of files and connections."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def require_model(self, fingerprint: str, k_bits: int) -> None:
        """Raises InputError where the index holds codes of another length, or of another model."""
        if self.k_bits != k_bits:
            raise InputError(
                f"{self.uri}: holds codes of {self.k_bits} bits, not {k_bits}; use the model that made them (--bits "
                "where they were cut), or another index"
            )
        if self.model and fingerprint and self.model != fingerprint:
            raise InputError(
                f"{self.uri}: holds codes of another model ({self.model[:12]}, not {fingerprint[:12]}), whose "
                "distances mean nothing here; use the model that made it, or index again"
            )

    def _require_kind(self, ids: list[Id]) -> None:
        kind, known = type(ids[0]), self.id_kind
        if known not in (None, kind):
            raise InputError(
                f"{self.uri}: its ids are {known.__name__}, these are {kind.__name__}; expected one kind an index"
            )

    def _possible(self, ids: list[Any]) -> list[Id]:
        """Each id once, of those that may be there."""
        kind = self.id_kind
        return list(dict.fromkeys(wanted for wanted in ids if type(wanted) is kind))

    @abstractmethod
    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[Mapping | None] | None) -> None: ...

    @abstractmethod
    def _delete(self, ids: list[Id]) -> int: ...

    @abstractmethod
    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict]]: ...

    @abstractmethod
    def _search(self, codes: np.ndarray, top_k: int, where: Mapping[str, Any] | None) -> list[Neighbors]: ...

    @abstractmethod
    def _search_radius(self, codes: np.ndarray, radius: int, where: Mapping[str, Any] | None) -> list[Neighbors]: ...

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes)
        width = -(-self.k_bits // 8)
        if codes.ndim != 2 or codes.dtype != np.uint8 or codes.shape[1] != width:
            raise InputError(
                f"{self.uri}: codes of {codes.dtype} {codes.shape}; expected packed codes of {self.k_bits} bits, "
                f"uint8 (n, {width})"
            )
        if self.k_bits % 8 and (codes[:, -1] & (0xFF >> self.k_bits % 8)).any():
            raise InputError(f"{self.uri}: codes have more than {self.k_bits} bits; expected zero padding")
        return codes


def open_index(uri: str | os.PathLike, k_bits: int | None = None, model: str = "", create: bool = True) -> Index:
    """Open an index, or begin one.

    Args:
        uri: a folder, for the embedded engine (`codes.index`; `codes.index?engine=ivf&nlist=4096&nprobe=16` for
            approximate search); `milvus://host:19530/collection`; or `postgresql://user@host/database?table=codes`.
        k_bits: length of the codes; needed where the index is new.
        model: fingerprint of the model that makes the codes; a new index keeps it.
        create: begin a new index where none is there.

    Raises:
        InputError: there is none and `create` is false or `k_bits` is None; it holds codes of another length or
            model; it is damaged; an option is unknown; or the engine cannot be reached or is not installed.
    """
    uri = os.fspath(uri)
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if k_bits is not None and k_bits < 1:
        raise InputError(f"{uri}: k_bits {k_bits}; expected 1 or more")
    if scheme == "":
        from math_hash.retrieval.engines.embedded.index import EmbeddedIndex as Engine
    elif scheme == "milvus":
        from math_hash.retrieval.engines.milvus import MilvusIndex as Engine
    elif scheme in ("postgresql", "postgres"):
        from math_hash.retrieval.engines.postgresql import PostgreSQLIndex as Engine
    else:
        raise InputError(f"{uri}: no engine for {scheme}://; expected a folder, milvus:// or postgresql://")
    index = Engine(uri, k_bits, model, create)
    try:
        index.require_model(model, k_bits or index.k_bits)
    except InputError:
        index.close()
        raise
    return index


def uri_options(uri: str, known: Mapping[str, type], keep_others: bool = False) -> tuple[str, dict[str, Any]]:
    """Split a URI from the options after its question mark, each turned into its type.

    Args:
        keep_others: leave unknown options in the URI instead of refusing them.

    Raises:
        InputError: an option is unknown or of another type.
    """
    parts = urlsplit(uri)
    options, others = {}, []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in known:
            try:
                options[name] = known[name](value)
            except ValueError as error:
                raise InputError(f"{uri}: {name}={value} is no {known[name].__name__}") from error
        elif keep_others:
            others.append((name, value))
        else:
            raise InputError(f"{uri}: unknown option {name}; expected {', '.join(known)}")
    return parts._replace(query=urlencode(others)).geturl(), options


def ivf_options(uri: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """nlist and nprobe, where `engine=ivf` asks for approximate search; None where exact search is meant.

    Raises:
        InputError: they do not fit together, or are out of range.
    """
    engine = options.get("engine", "exact")
    if engine not in ("exact", "ivf"):
        raise InputError(f"{uri}: engine={engine}; expected exact or ivf")
    chosen = {name: options[name] for name in ("nlist", "nprobe") if name in options}
    if engine == "exact" and chosen:
        raise InputError(f"{uri}: nlist and nprobe belong to engine=ivf")
    if min(chosen.values(), default=1) < 1:
        raise InputError(f"{uri}: nlist and nprobe; expected 1 or more")
    return {"engine": engine, **chosen} if engine == "ivf" else None


def _checked_filter(where: Mapping[str, Any] | None) -> dict[str, Any]:
    for name, value in (where or {}).items():
        if not isinstance(name, str) or not name or '"' in name or "\\" in name:
            raise InputError(f"where: the name {name!r} cannot be filtered on; expected text without quotation marks")
        fits = isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63)
        if not fits or value != value or not _is_text(name + str(value)):
            raise InputError(f"where {name!r}: {value!r}; expected a string, a number, true or false")
    return dict(where or {})


def _checked_ids(ids: Iterable) -> list[Id]:
    ids = _plain(ids)
    kinds = {type(found) for found in ids}
    if kinds - {int, str} or len(kinds) > 1:
        raise InputError(f"ids: of {', '.join(sorted(kind.__name__ for kind in kinds))}; expected all int, or all str")
    for found in ids if str in kinds else ():
        if not found or "\0" in found or not _is_text(found) or len(found.encode()) > LONGEST_ID:
            raise InputError(f"id {found[:40]!r}: expected 1 to {LONGEST_ID} bytes of text without a null character")
    if int in kinds and not (-(2**63) <= min(ids) and max(ids) < 2**63):
        raise InputError("ids: an integer is too large; expected at most 63 bits")
    return ids


def _plain(ids: Iterable) -> list[Any]:
    """Ids as Python's own objects."""
    if isinstance(ids, np.ndarray):
        return ids.tolist()
    return [found.item() if isinstance(found, np.generic) else found for found in ids]


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: half a character cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
