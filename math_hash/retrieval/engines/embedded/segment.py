"""Rows of an embedded index that one scan passes over: a snapshot's, those added since, or those that pass a filter."""

import numpy as np

from math_hash.hamming import scan
from math_hash.retrieval.engines.embedded.ivf import Ivf


class Segment:
    """Rows that are scanned together: codes uint64 (words, n), ids (n,), row numbers int64 (n,) rising."""

    def __init__(self, codes: np.ndarray, ids: np.ndarray, rows: np.ndarray, ivf: Ivf | None = None):
        self.codes, self.ids, self.rows, self.ivf, self.dead = codes, ids, rows, ivf, None

    @classmethod
    def empty(cls, words: int, dtype: np.dtype) -> "Segment":
        return cls(np.empty((words, 0), np.uint64), np.empty(0, dtype), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where these row numbers stand, of those that are here."""
        places = np.searchsorted(self.rows, rows)
        inside = places < len(self.rows)
        places, rows = places[inside], rows[inside]
        return places[self.rows[places] == rows]

    def bury(self, dead: np.ndarray) -> None:
        """Pass over the rows of these numbers from now on."""
        places = self.places(dead)
        if len(places):
            self.dead = np.zeros(len(self.rows), bool)
            self.dead[places] = True
            if self.ivf:
                self.ivf.remove(places)

    def only(self, rows: np.ndarray) -> "Segment":
        """A copy of the rows of these numbers."""
        places = self.places(rows)
        return Segment(np.ascontiguousarray(self.codes[:, places]), self.ids[places], self.rows[places])

    def nearest(self, queries: np.ndarray, top_k: int, k_bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and distances, as `scan.nearest` gives them; approximately where there is an approximate index."""
        if self.ivf:
            return self.ivf.nearest(queries, top_k)
        return scan.nearest(queries, self.codes, k_bits, top_k, self.dead)
