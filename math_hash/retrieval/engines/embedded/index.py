"""The embedded engine: one folder, exact search, approximate search by FAISS on request.

The *store*, `rows.sqlite`, is the truth: each call that changes rows is one durable transaction of it. Searches read a
*snapshot* beside it, memory-mapped arrays with SHA-256 sums, and from memory the *tail*, the rows added since. A
snapshot that is missing or damaged is made again from the store, whose rows carry checksums too.
"""

import json
import shutil
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.data.rejected import first_few
from math_hash.errors import InputError, import_extra
from math_hash.hamming.codes import as_planes
from math_hash.retrieval.engines.embedded.folder import remove_orphans, require_folder
from math_hash.retrieval.engines.embedded.segment import Segment, codes_at, ids_as_array, ids_at, offsets_of
from math_hash.retrieval.engines.embedded.snapshot import Snapshot
from math_hash.retrieval.engines.embedded.store import Store
from math_hash.retrieval.filters import Clause
from math_hash.retrieval.ids import Id, IdKind
from math_hash.retrieval.index import Index
from math_hash.retrieval.neighbors import BatchNeighbors, Neighbors
from math_hash.retrieval.uri import ivf_options, structure_option, uri_options

_UNSAVED = 1 << 16  # rows kept in memory before a snapshot is written automatically


class EmbeddedIndex(Index):
    """See the module and `open_index`."""

    def __init__(self, uri: str, k_bits: int | None, model: str, create: bool):
        name, options = uri_options(uri, {"engine": str, "nlist": int, "nprobe": int, "structure": str})
        self.uri, self.folder = name, Path(name)
        self._ivf_options, self._wanted_structure = ivf_options(uri, options), structure_option(uri, options)
        if self._ivf_options:
            import_extra("faiss", "search", uri)
        require_folder(self.folder, name, can_begin=create and k_bits is not None)
        try:
            self._store = Store(self.folder, self.uri, k_bits, model)
            self.k_bits, self.model = self._store.k_bits, self._store.model
            self._words = -(-self.k_bits // 64)
            self._seen: tuple[int, int] | None = None  # state of the store that all of the following belongs to
            self._generation: int | None = None
            self._snapshot, self._tail = Snapshot.none(self._words), Segment.empty(self._words, np.int64)
            self._filtered: dict[str, list[Segment]] = {}
            self._damaged: set[Any] = set()  # ids of rows that are left out
            self._refresh()
        except InputError:
            raise
        except (sqlite3.Error, KeyError, ValueError, OSError) as error:
            raise InputError(
                f"{name}: cannot be opened ({error}); keep what can be read with `math-hash index --repair {name}`"
            ) from error

    # ---- changes ----

    def _add(self, ids: list[Id], codes: np.ndarray, metadata: Sequence[str | None], replace: bool) -> None:
        with self._store:
            with self._store.transaction():
                self._require_kind(ids)  # once more: another process may have added the first rows just now
                if replace:
                    self._store.delete(ids)
                self._store.insert(ids, codes, metadata)
            self._damaged -= set(ids)
            self._refresh()
            if len(self._tail) > max(_UNSAVED, len(self._snapshot.segment) // 4):
                try:
                    self.save()
                except InputError as error:  # the rows are safe already
                    warnings.warn(f"{self.uri}: no snapshot was written ({error})", stacklevel=3)

    def _set_metadata(self, ids: list[Id], metadata: Sequence[str | None]) -> None:
        with self._store, self._store.transaction():
            self._store.set_metadata(ids, metadata)

    def _delete(self, ids: list[Id]) -> int:
        with self._store:
            with self._store.transaction():
                deleted = self._store.delete(ids)
            self._damaged -= set(ids)
            self._refresh()
        return deleted

    def save(self) -> None:
        """Write a new snapshot of all rows and choose its structure; with `engine=ivf`, build the approximate index
        too, and measure its recall.
        """
        with self._store, self._store.transaction():
            self._refresh()
            if self._damaged:
                raise InputError(f"{self._damage()} before a snapshot is written")
            before = self._store.generation
            remove_orphans(self.folder, keep=Snapshot.folder(self.folder, before))
            segments = (self._snapshot.segment, self._tail)
            unchanged = not len(self._tail) and all(segment.dead is None for segment in segments)
            if unchanged and before and not self._snapshot.is_outdated(self._ivf_options, self._wanted_structure):
                return
            rows = Segment.concatenate([segment.alive() for segment in segments])
            folder = Snapshot.folder(self.folder, before + 1)
            Snapshot(rows, self._last_row).write(
                folder, self.k_bits, self.model, self._ivf_options, self._wanted_structure
            )
            self._store.set_generation(before + 1)
        with self._store:
            self._refresh()
            self._store.checkpoint()
            if before:
                shutil.rmtree(Snapshot.folder(self.folder, before), ignore_errors=True)

    @property
    def unfinished(self) -> str:
        """See `Index.unfinished`."""
        return self._store.unfinished

    def set_unfinished(self, source: str) -> None:
        """See `Index.set_unfinished`."""
        with self._store, self._store.transaction():
            self._store.set_unfinished(source)

    def close(self) -> None:
        """Close the files. Rows that no snapshot holds yet are read again from the store when it is opened."""
        self._store.close()

    # ---- searches ----

    def _search(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> list[Neighbors]:
        segments, places, distances = self._nearest(codes, top_k, where)
        found = ids_at(segments, places), distances, codes_at(segments, places, self.k_bits)
        return [Neighbors(*values).without_missing() for values in zip(*found, strict=True)]

    def _search_batch(self, codes: np.ndarray, top_k: int, where: list[Clause]) -> BatchNeighbors:
        segments, places, distances = self._nearest(codes, top_k, where)
        return BatchNeighbors.padded(ids_at(segments, places), distances, top_k)

    def _nearest(
        self, codes: np.ndarray, top_k: int, where: list[Clause]
    ) -> tuple[list[Segment], np.ndarray, np.ndarray]:
        """Segments, places in them and distances, int64, both (q, m), m <= top_k; -1 where fewer rows exist."""
        with self._store:
            self._refresh()
            segments = self._segments(where)
            results = [segment.nearest(codes, top_k, self.k_bits) for segment in segments]
            places, distances = results[0]
            if len(results) > 1:
                from math_hash.hamming.scan import merge

                offsets = offsets_of(segments)
                shifted = [np.where(p < 0, -1, p + offset) for (p, _), offset in zip(results, offsets, strict=True)]
                both = np.concatenate([distances for _, distances in results], axis=1)
                places, distances = merge(np.concatenate(shifted, axis=1), both, top_k)
            return segments, places, distances.view(np.int16).astype(np.int64)  # 65,535 becomes -1

    def _search_radius(self, codes: np.ndarray, radius: int, where: list[Clause]) -> list[Neighbors]:
        with self._store:
            self._refresh()
            segments, neighbors = self._segments(where), []
            offsets = offsets_of(segments)
            for code in codes:
                results = [segment.within(code, radius) for segment in segments]
                places = np.concatenate([p + offset for (p, _), offset in zip(results, offsets, strict=True)])
                distances = np.concatenate([distances for _, distances in results])
                order = np.argsort(distances, kind="stable")
                places, distances = places[order], distances[order].astype(np.int64)
                neighbors.append(
                    Neighbors(ids_at(segments, places), distances, codes_at(segments, places, self.k_bits))
                )
            return neighbors

    def all_codes(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.all_codes`."""
        return self._all_codes([])

    def _ids(self, where: list[Clause]) -> np.ndarray:
        return self._all_codes(where)[0]

    def _all_codes(self, where: list[Clause]) -> tuple[np.ndarray, np.ndarray]:
        with self._store:
            self._refresh()
            rows = Segment.concatenate([segment.alive() for segment in self._segments(where)])
        places = np.arange(len(rows))
        return ids_at([rows], places), codes_at([rows], places, self.k_bits)

    def all_metadata(self) -> Iterator[list[tuple[Id, dict[str, Any]]]]:
        """See `Index.all_metadata`."""
        return self._store.metadata.chunks()

    def _segments(self, where: list[Clause]) -> list[Segment]:
        """What to search: the snapshot and the tail, or, with a filter, a copy of their rows that pass."""
        snapshot = self._snapshot.segment
        segments = [segment for segment in (snapshot, self._tail) if len(segment)] or [snapshot]
        if not where:
            return segments
        key = repr(where)
        if key not in self._filtered:
            rows = self._store.metadata.rows_that_pass(where)
            # only the last filter is kept: pages and sliders ask for it again and again
            self._filtered = {key: [Segment.concatenate([segment.only(rows) for segment in segments])]}
        return self._filtered[key]

    def _rows(self, ids: list[Id]) -> dict[Id, tuple[np.ndarray, dict[str, Any]]]:
        with self._store:
            stored = {row_id: self._store.row(row_id) for row_id in ids}
        return {row_id: (np.frombuffer(row[0], np.uint8), json.loads(row[1])) for row_id, row in stored.items() if row}

    def has_field(self, name: str) -> bool:
        """See `Index.has_field`."""
        with self._store:
            self._refresh()
            return self._store.metadata.has_field(name)

    def fields(self) -> set[str]:
        """See `Index.fields`."""
        with self._store:
            return self._store.metadata.fields()

    @property
    def id_kind(self) -> IdKind | None:
        """See `Index.id_kind`."""
        with self._store:
            return self._store.id_kind

    def __len__(self) -> int:
        with self._store:
            self._refresh()
            return self._snapshot.segment.alive_count + self._tail.alive_count

    @property
    def recall(self) -> float | None:
        """See `Index.recall`; measured when the approximate index was built."""
        approximate = self._snapshot.segment.ivf
        return None if approximate is None else approximate.recall

    @property
    def structure(self) -> str:
        """See `Index.structure`."""
        structure = self._snapshot.segment.structure
        return structure.name if structure else "scan"

    def _details(self) -> list[str]:
        kind = f"engine=ivf, recall {self.recall}" if self._ivf_options else f"engine=exact, structure={self.structure}"
        return [kind, f"{self._tail.alive_count:,} unsaved"]

    # ---- keeping up with the store ----

    def _refresh(self) -> None:
        """Read what changed in the store since the last time, by this process or another one."""
        version = self._store.version()
        if version == self._seen:
            return
        with self._store.one_state():
            generation, id_kind = self._store.generation, self._store.id_kind
            if self._generation != generation:
                self._generation, self._damaged = generation, set()
                self._snapshot = Snapshot.in_effect(
                    self.folder, generation, self._words, self._ivf_options, self._wanted_structure
                )
                self._tail = Segment.empty(self._words, self._snapshot.segment.ids.dtype)
            self._read_tail(id_kind)
            dead = self._store.dead_rows()
            for segment in (self._snapshot.segment, self._tail):
                segment.bury(dead)
            self._filtered = {}
            self._store.metadata.forget()
            self._seen = version

    @property
    def _last_row(self) -> int:
        """Number of the last row that was read."""
        return int(self._tail.rows[-1]) if len(self._tail) else self._snapshot.last_row

    def _read_tail(self, id_kind: IdKind | None) -> None:
        segments, damaged = [self._tail] if len(self._tail) else [], list[Any]()
        for ids, codes, rows in self._store.rows_after(self._last_row, damaged):
            planes = as_planes(np.frombuffer(codes, np.uint8).reshape(len(rows), -1))
            segments.append(Segment(planes, ids_as_array(ids, id_kind), rows))
        if set(damaged) - self._damaged:
            self._damaged |= set(damaged)
            warnings.warn(self._damage(), stacklevel=2)
        if segments:
            self._tail = Segment.concatenate(segments)
            return
        dtype = np.dtype("S1" if id_kind is str else np.int64)
        self._tail = Segment.empty(self._words, dtype)
        if not len(self._snapshot.segment):
            self._snapshot.segment = Segment.empty(self._words, dtype)

    def _damage(self) -> str:
        ids = first_few(map(repr, self._damaged))
        return f"{self.uri}: damaged rows are left out, of id {ids}; run `math-hash index --repair {self.uri}`"
