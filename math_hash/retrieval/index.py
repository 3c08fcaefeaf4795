"""One interface to every engine that holds codes and finds the nearest ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.filters import Clause, clauses_for
from math_hash.retrieval.ids import Id, IdKind, as_python, checked_ids
from math_hash.retrieval.metadata import as_json
from math_hash.retrieval.model_search import ModelSearch
from math_hash.retrieval.near_duplicates import NearDuplicates
from math_hash.retrieval.neighbors import BatchNeighbors, Neighbors

Metadata = Sequence[Mapping[str, Any] | None] | None  # a JSON object per row, None for a row without one


class Index(ModelSearch, NearDuplicates, ABC):
    """Codes with ids and metadata, searched by Hamming distance. `open_index` opens one.

    Ids are integers (below 2^63) or strings, one kind per index. Metadata is one JSON object per row, of at most 1
    MB and 32 levels. A filter `where` maps names of its fields to conditions, as `filters` describes; `label` and
    `labels` name the same field where rows have only one of them. All calls may come from several threads.

    Attributes:
        uri: where it is.
        k_bits: length of the codes.
        model: fingerprint of the model whose codes it holds; "" if unknown.
        image_root: the folder that the image paths of its metadata start from, for thumbnails; None if unknown.
    """

    uri: str
    k_bits: int
    model: str
    image_root: Path | None = None

    @property
    @abstractmethod
    def id_kind(self) -> IdKind | None:
        """int or str; None while it has no rows yet."""

    def add(
        self, ids: Sequence[Id] | np.ndarray, codes: np.ndarray, metadata: Metadata = None, replace: bool = False
    ) -> None:
        """Add rows. When it returns, they are safe; if it fails, none or whole batches of them have been added.

        Args:
            ids: n ids that are not in the index yet.
            codes: packed, uint8 (n, ceil(k_bits / 8)).
            metadata: n JSON objects, with None for a row without metadata.
            replace: ids may be in the index; their rows are replaced, and then come last in the order of insertion.

        Raises:
            InputError: codes are of another length, an id is of another kind, occurs twice or is there already,
                metadata is no JSON object, too deep or too large, lengths differ, or the engine refuses.
        """
        row_ids, codes = checked_ids(ids), self._checked_codes(codes)
        if len(row_ids) != len(codes) or (metadata is not None and len(metadata) != len(row_ids)):
            described = "" if metadata is None else f", {len(metadata)} metadata objects"
            raise InputError(f"add: {len(row_ids)} ids, {len(codes)} codes{described}; expected as many of each")
        if row_ids:
            self._require_kind(row_ids)
            objects = metadata if metadata is not None else [None] * len(row_ids)
            texts = [as_json(row_id, given) for row_id, given in zip(row_ids, objects, strict=True)]
            self._add(row_ids, codes, texts, replace)

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
            InputError: codes are of another length, no row has a field that the filter names, or the engine refuses.
        """
        codes, clauses = self._checked_query(codes, top_k, where)
        return self._search(codes, top_k, clauses) if len(codes) else []

    def search_batch(
        self, codes: np.ndarray, top_k: int = 10, where: Mapping[str, Any] | None = None
    ) -> BatchNeighbors:
        """Find the nearest rows of each query, as arrays (q, top_k). Otherwise as `search`."""
        codes, clauses = self._checked_query(codes, top_k, where)
        return self._search_batch(codes, top_k, clauses) if len(codes) else BatchNeighbors.of([], top_k)

    def _checked_query(
        self, codes: np.ndarray, top_k: int, where: Mapping[str, Any] | None
    ) -> tuple[np.ndarray, list[Clause]]:
        if top_k < 1:
            raise InputError(f"search: top_k {top_k}; expected 1 or more")
        return self._checked_codes(codes), clauses_for(self, where)

    def search_radius(self, codes: np.ndarray, radius: int, where: Mapping[str, Any] | None = None) -> list[Neighbors]:
        """Find all rows at a distance <= `radius` of each query, sorted by distance. Otherwise as `search`."""
        if radius < 0:
            raise InputError(f"search_radius: radius {radius}; expected 0 or more")
        codes, clauses = self._checked_codes(codes), clauses_for(self, where)
        return self._search_radius(codes, radius, clauses) if len(codes) else []

    def all_codes(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids, (n,), and the packed codes, uint8 (n, ceil(k_bits / 8)), of all rows, as they were added.

        Raises:
            InputError: the engine cannot hand them out; the embedded one can.
        """
        raise InputError(
            f"{self.uri}: this engine does not hand out all its codes; use the folder of codes that it was made from"
        )

    def all_metadata(self) -> Iterator[list[tuple[Id, dict[str, Any]]]]:
        """Ids and metadata of all rows, in chunks, as they were added. Embedded only: the other engines return none."""
        return iter(())

    def set_metadata(self, ids: Sequence[Id], metadata: Sequence[Mapping[str, Any] | None]) -> None:
        """Replace the metadata of rows, all at once or none, which keep ids and codes. Embedded only.

        Args:
            ids: n ids of rows that are there.
            metadata: n JSON objects, with None for a row without metadata.

        Raises:
            InputError: an id is not there, metadata is no JSON object, or the engine cannot change rows.
        """
        row_ids = checked_ids(ids)
        self._set_metadata(row_ids, [as_json(*row) for row in zip(row_ids, metadata, strict=True)])

    def delete(self, ids: Sequence[Id] | np.ndarray) -> int:
        """Remove rows. Returns how many of the ids were there.

        Raises:
            InputError: `ids` is one id alone, or the engine refuses.
        """
        possible = self._possible(as_python(ids))
        return self._delete(possible) if possible else 0

    def ids(self, where: Mapping[str, Any] | None = None) -> np.ndarray:
        """The ids of the rows that pass a filter, or of all rows, (n,), in no particular order."""
        return self._ids(clauses_for(self, where)) if self.id_kind is not None else np.empty(0, np.int64)

    def rows(self, ids: Sequence[Id] | np.ndarray) -> list[tuple[np.ndarray, dict[str, Any]] | None]:
        """The packed code, uint8 (ceil(k_bits / 8),), and the metadata of each id; None where it is not there."""
        wanted = as_python(ids)
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

    @abstractmethod
    def has_field(self, name: str) -> bool:
        """Whether the metadata of any row has a field of this name."""

    @abstractmethod
    def fields(self) -> set[str]:
        """Names of the fields of the rows' metadata; from Milvus, of some rows."""

    @property
    def unfinished(self) -> str:
        """The folder of codes that `fill` has put in partly and not to its end; "" for none. Embedded only."""
        return ""

    def set_unfinished(self, source: str) -> None:
        """Record `unfinished`; engines without one do nothing."""

    @property
    def recall(self) -> float | None:
        """Share of the true 10 nearest rows that approximate search finds; None for exact search, or if unknown."""
        return None

    @property
    def structure(self) -> str | None:
        """What exact search uses, bucket, mih or scan; None for an engine that does not say."""
        return None

    def __repr__(self) -> str:
        try:
            rows = f"{len(self):,}"
        except InputError:  # it is closed, or cannot be reached
            rows = "unknown number of"
        facts = ", ".join([f"{rows} codes of {self.k_bits} bits", *self._details()])
        return f"<{type(self).__name__} {self.uri}: {facts}>"

    def _details(self) -> list[str]:
        """What else the engine says in its repr."""
        return []

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def save(self) -> None:
        """Make searching and opening fast again after changes, where the engine can. Nothing is lost without it."""

    def close(self) -> None:
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
                f"{self.uri}: holds codes of {self.k_bits} bits, not {k_bits}; use the model that made them (`bits` "
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
    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[str | None], replace: bool) -> None: ...

    def _set_metadata(self, ids: list[Id], metadata: Sequence[str | None]) -> None:
        raise InputError(f"{self.uri}: this engine changes no metadata; delete the rows, and add them again")

    @abstractmethod
    def _delete(self, ids: list[Id]) -> int: ...

    @abstractmethod
    def _ids(self, where: list[Clause]) -> np.ndarray: ...

    @abstractmethod
    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict[str, Any]]]: ...

    @abstractmethod
    def _search(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> list[Neighbors]: ...

    def _search_batch(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> BatchNeighbors:
        return BatchNeighbors.of(self._search(codes, top_k, where), top_k)

    @abstractmethod
    def _search_radius(self, codes: np.ndarray, radius: int, where: list[Clause]) -> list[Neighbors]: ...

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
