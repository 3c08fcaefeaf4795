"""Rows of an embedded index that one scan covers: a snapshot's, those added since, or those that pass a filter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from math_hash.hamming import plain
from math_hash.retrieval.ids import Id, IdKind

if TYPE_CHECKING:
    from math_hash.hamming.structure import Structure
    from math_hash.retrieval.engines.embedded.ivf import Ivf


class Segment:
    """Rows that are scanned together.

    Attributes:
        codes: uint64 (words, n), as `codes.as_planes` gives them.
        ids: int64 (n,), or UTF-8 strings as bytes (n,).
        rows: row numbers, int64 (n,), rising.
        ivf: approximate index of the rows; None: search is exact.
        structure: exact structure over the rows; None: they are scanned.
        dead: bool (n,), True at rows that are skipped; None: no row is.
    """

    def __init__(
        self, codes: np.ndarray, ids: np.ndarray, rows: np.ndarray, ivf: "Ivf | None" = None,
        structure: "Structure | None" = None,
    ):  # fmt: skip
        self.codes, self.ids, self.rows, self.ivf, self.structure = codes, ids, rows, ivf, structure
        self.dead: np.ndarray | None = None

    @classmethod
    def empty(cls, words: int, id_dtype: DTypeLike) -> "Segment":
        """No rows, of codes of this many words."""
        return cls(np.empty((words, 0), np.uint64), np.empty(0, id_dtype), np.empty(0, np.int64))

    @classmethod
    def concatenate(cls, segments: Sequence["Segment"]) -> "Segment":
        """The rows of several segments, one after another; all of them count as alive."""
        return cls(
            np.concatenate([segment.codes for segment in segments], axis=1),
            np.concatenate([segment.ids for segment in segments]),
            np.concatenate([segment.rows for segment in segments]),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def alive_count(self) -> int:
        """Number of rows that are not dead."""
        return len(self) - (0 if self.dead is None else int(self.dead.sum()))

    def alive(self) -> "Segment":
        """The rows that are not dead."""
        if self.dead is None:
            return self
        return Segment(self.codes[:, ~self.dead], self.ids[~self.dead], self.rows[~self.dead])

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Positions of the rows with these numbers, as far as they are in the segment."""
        places = np.searchsorted(self.rows, rows)
        inside = places < len(self.rows)
        places, rows = places[inside], rows[inside]
        return places[self.rows[places] == rows]

    def bury(self, dead: np.ndarray) -> None:
        """Skip the rows with these numbers from now on."""
        places = self.places(dead)
        if len(places):
            self.dead = np.zeros(len(self.rows), bool)
            self.dead[places] = True
            if self.ivf:
                self.ivf.remove(places)

    def only(self, rows: np.ndarray) -> "Segment":
        """A copy of the rows with these numbers."""
        places = self.places(rows)
        return Segment(np.ascontiguousarray(self.codes[:, places]), self.ids[places], self.rows[places])

    def nearest(self, queries: np.ndarray, top_k: int, k_bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and distances, as `scan.nearest` gives them; approximate where there is an approximate index."""
        if self.ivf:
            return self.ivf.nearest(queries, top_k)
        if self.structure:
            return self.structure.nearest(queries, top_k, self.dead)
        if len(queries) * self.codes.size <= plain.FEW:
            return plain.nearest(queries, self.codes, top_k, self.dead)
        from math_hash.hamming import scan  # numba

        return scan.nearest(queries, self.codes, k_bits, top_k, self.dead)

    def within(self, query: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and distances, as `scan.within` gives them."""
        if self.structure:
            return self.structure.within(query, radius, self.dead)
        if self.codes.size <= plain.FEW:
            return plain.within(query, self.codes, radius, self.dead)
        from math_hash.hamming import scan

        return scan.within(query, self.codes, radius, self.dead)


def ids_as_array(ids: Sequence[Id], id_kind: IdKind | None) -> np.ndarray:
    """Ids as a segment has them."""
    return np.array([str(name).encode() for name in ids]) if id_kind is str else np.array(ids, np.int64)


def offsets_of(segments: Sequence[Segment]) -> np.ndarray:
    """Where the places of each segment start, once they stand one after another."""
    return np.cumsum([0, *(len(segment) for segment in segments[:-1])])


def ids_at(segments: Sequence[Segment], places: np.ndarray) -> np.ndarray:
    """Ids at places that count through one or two segments."""
    first = segments[0]
    if len(segments) == 1:
        ids = first.ids[places] if len(first) else np.empty(places.shape, first.ids.dtype)
    else:
        in_first = first.ids[np.minimum(places, len(first) - 1)]
        ids = np.where(places < len(first), in_first, segments[1].ids[np.maximum(places - len(first), 0)])
    return ids if ids.dtype.kind == "i" else np.char.decode(ids, "utf-8")


def codes_at(segments: Sequence[Segment], places: np.ndarray, k_bits: int) -> np.ndarray:
    """Packed codes, uint8 (..., ceil(k_bits / 8)), at places that count through one or two segments."""
    first = segments[0]
    if len(segments) == 1:
        words = first.codes.T[places]
    else:
        in_first, rest = np.minimum(places, len(first) - 1), np.maximum(places - len(first), 0)
        words = np.where((places < len(first))[..., None], first.codes.T[in_first], segments[1].codes.T[rest])
    return np.ascontiguousarray(words).view(np.uint8)[..., : -(-k_bits // 8)]
