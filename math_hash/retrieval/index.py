"""One interface to every engine that holds codes and finds the nearest ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from math_hash.errors import InputError

Id = int | str
IdKind = type[int] | type[str]
KINDS: dict[str, IdKind] = {"int": int, "str": str}
LONGEST_ID = 256  # bytes


@dataclass(frozen=True)
class Neighbors:
    """The rows nearest to one query, sorted by distance.

    Attributes:
        ids: int64 (n,), or strings (n,).
        distances: Hamming distances, int64 (n,).
        codes: packed, uint8 (n, ceil(k_bits / 8)); None from an engine that does not have them at hand.
    """

    ids: np.ndarray
    distances: np.ndarray
    codes: np.ndarray | None = None

    def first(self, count: int | None) -> "Neighbors":
        """The first `count` rows; None: all."""
        codes = None if self.codes is None else self.codes[:count]
        return Neighbors(self.ids[:count], self.distances[:count], codes)

    @classmethod
    def empty(cls) -> "Neighbors":
        """No rows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)


class Index(ABC):
    """Codes with ids and metadata, searched by Hamming distance. `open_index` opens one.

    Ids are integers (below 2^63) or strings, one kind per index. Metadata is one JSON object per row. A filter `where`
    is a mapping from names to values: a row passes if each named value of its metadata equals the wanted one, or is a
    list that contains it. All calls may come from several threads.

    Attributes:
        uri: where it is.
        k_bits: length of the codes.
        model: fingerprint of the model whose codes it holds; "" if unknown.
    """

    uri: str
    k_bits: int
    model: str

    @property
    @abstractmethod
    def id_kind(self) -> IdKind | None:
        """int or str; None while it has no rows yet."""

    def add(
        self,
        ids: Sequence[Id] | np.ndarray,
        codes: np.ndarray,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add rows. When it returns, they are safe; if it fails, none or whole batches of them have been added.

        Args:
            ids: n ids that are not in the index yet.
            codes: packed, uint8 (n, ceil(k_bits / 8)).
            metadata: n JSON objects, with None for a row without metadata.

        Raises:
            InputError: codes are of another length, an id is of another kind or is there already, metadata is no
                JSON object, lengths differ, or the engine refuses.
        """
        checked_ids, codes = _checked_ids(ids), self._checked_codes(codes)
        if len(checked_ids) != len(codes) or (metadata is not None and len(metadata) != len(checked_ids)):
            objects = "" if metadata is None else f", {len(metadata)} metadata objects"
            raise InputError(f"add: {len(checked_ids)} ids, {len(codes)} codes{objects}; expected as many of each")
        if len(set(checked_ids)) != len(checked_ids):
            raise InputError("add: an id occurs twice among those to add; expected each once")
        if checked_ids:
            self._require_kind(checked_ids)
            self._add(checked_ids, codes, metadata)

    def search(self, codes: np.ndarray, top_k: int = 10, where: Mapping[str, Any] | None = None) -> list[Neighbors]:
        """Find the nearest rows of each query.

        Args:
            codes: of the queries, packed, uint8 (q, ceil(k_bits / 8)).
            top_k: number of rows for each query; fewer are returned if fewer rows exist (or pass the filter).
            where: filter, see the class.

        Returns:
            One `Neighbors` for each query, sorted by distance. The embedded engine orders ties by insertion; with the
            other engines, ids may differ within a tie at the last place.

        Raises:
            InputError: codes are of another length, or the engine refuses.
        """
        if top_k < 1:
            raise InputError(f"search: top_k {top_k}; expected 1 or more")
        codes, where = self._checked_codes(codes), _checked_filter(where)
        return self._search(codes, top_k, where) if len(codes) else []

    def search_radius(self, codes: np.ndarray, radius: int, where: Mapping[str, Any] | None = None) -> list[Neighbors]:
        """Find all rows at a distance <= `radius` of each query, sorted by distance. Otherwise as `search`."""
        if radius < 0:
            raise InputError(f"search_radius: radius {radius}; expected 0 or more")
        codes, where = self._checked_codes(codes), _checked_filter(where)
        return self._search_radius(codes, radius, where) if len(codes) else []

    def delete(self, ids: Sequence[Id] | np.ndarray) -> int:
        """Remove rows. Returns how many of the ids were there."""
        possible = self._possible(_as_python(ids))
        return self._delete(possible) if possible else 0

    def rows(self, ids: Sequence[Id] | np.ndarray) -> list[tuple[np.ndarray, dict[str, Any]] | None]:
        """The packed code, uint8 (ceil(k_bits / 8),), and the metadata of each id; None where it is not there."""
        wanted = _as_python(ids)
        possible = self._possible(wanted)
        rows = self._rows(possible) if possible else {}
        return [rows.get(row_id) for row_id in wanted]

    def codes_of(self, ids: Sequence[Id] | np.ndarray) -> np.ndarray:
        """The packed codes of the ids, uint8 (n, ceil(k_bits / 8)); zeros where an id is not there (any more)."""
        codes = np.zeros((len(ids), -(-self.k_bits // 8)), np.uint8)
        for place, row in enumerate(self.rows(ids)):
            if row:
                codes[place] = row[0]
        return codes

    @property
    def recall(self) -> float | None:
        """Share of the true 10 nearest rows that approximate search finds; None for exact search, or if unknown."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def save(self) -> None:
        """Make searching and opening fast again after changes, where the engine can. Nothing is lost without it."""

    def close(self) -> None:  # noqa: B027 - an engine may have nothing to close
        """Close files and connections."""

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def require_model(self, fingerprint: str, k_bits: int) -> None:
        """Raises InputError if the index holds codes of another length, or of another model."""
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
        if known is not None and known is not kind:
            raise InputError(
                f"{self.uri}: its ids are {known.__name__}, these are {kind.__name__}; expected one kind per index"
            )

    def _possible(self, ids: list[Any]) -> list[Id]:
        """Each id once, of those that may be there."""
        kind = self.id_kind
        return list(dict.fromkeys(row_id for row_id in ids if type(row_id) is kind))

    @abstractmethod
    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[Mapping[str, Any] | None] | None) -> None: ...

    @abstractmethod
    def _delete(self, ids: list[Id]) -> int: ...

    @abstractmethod
    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict[str, Any]]]: ...

    @abstractmethod
    def _search(self, codes: np.ndarray, top_k: int, where: Mapping[str, Any]) -> list[Neighbors]: ...

    @abstractmethod
    def _search_radius(self, codes: np.ndarray, radius: int, where: Mapping[str, Any]) -> list[Neighbors]: ...

    def _checked_codes(self, codes: np.ndarray) -> np.ndarray:
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


def _checked_filter(where: Mapping[str, Any] | None) -> dict[str, Any]:
    for name, value in (where or {}).items():
        if not isinstance(name, str) or not name or '"' in name or "\\" in name:
            raise InputError(f"where: the name {name!r} cannot be filtered on; expected text without quotation marks")
        fits = isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63)
        if not fits or value != value or not _is_text(name + str(value)):
            raise InputError(f"where {name!r}: {value!r}; expected a string, a number, true or false")
    return dict(where or {})


def _checked_ids(ids: Iterable[Any]) -> list[Id]:
    plain = _as_python(ids)
    kinds = {type(row_id) for row_id in plain}
    if kinds - {int, str} or len(kinds) > 1:
        raise InputError(f"ids: of {', '.join(sorted(kind.__name__ for kind in kinds))}; expected all int, or all str")
    for name in plain if str in kinds else ():
        if not name or "\0" in name or not _is_text(name) or len(name.encode()) > LONGEST_ID:
            raise InputError(f"id {name[:40]!r}: expected 1 to {LONGEST_ID} bytes of text without a null character")
    if int in kinds and not (-(2**63) <= min(plain) and max(plain) < 2**63):
        raise InputError("ids: an integer is too large; expected at most 63 bits")
    return plain


def _as_python(ids: Iterable[Any]) -> list[Any]:
    """Ids as Python's own objects."""
    if isinstance(ids, np.ndarray):
        return ids.tolist()
    return [row_id.item() if isinstance(row_id, np.generic) else row_id for row_id in ids]


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: half a character cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
