"""What a search returns: the rows nearest to one query, or to each query of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from math_hash.retrieval.ids import Id

_SHOWN = 5  # neighbors in a repr


def listed(ids: Sequence[Id], distances: Sequence[int]) -> str:
    """The first rows in words, for reprs.

    >>> listed(["a", "b"], [0, 3])
    "2 rows: 'a' at 0, 'b' at 3"
    """
    pairs = zip(ids[:_SHOWN], distances[:_SHOWN], strict=True)
    shown = [f"{row_id!r} at {distance}" for row_id, distance in pairs] + ["..."] * (len(ids) > _SHOWN)
    return f"{len(ids)} rows{': ' * bool(shown)}{', '.join(shown)}"


@dataclass(frozen=True, repr=False)
class Neighbors:
    """The rows nearest to one query, sorted by distance.

    Attributes:
        ids: int64 (n,), or strings (n,).
        distances: Hamming distances, int64 (n,).
        codes: packed, uint8 (n, ceil(k_bits / 8)); None from an engine that does not have them at hand.

    Example:
        >>> Neighbors(np.array(["a", "b"]), np.array([0, 3]))
        Neighbors(2 rows: 'a' at 0, 'b' at 3)
    """

    ids: np.ndarray
    distances: np.ndarray
    codes: np.ndarray | None = None

    def first(self, count: int | None, offset: int = 0) -> "Neighbors":
        """The first `count` rows after the first `offset`; None: all of them."""
        part = slice(offset, None if count is None else offset + count)
        codes = None if self.codes is None else self.codes[part]
        return Neighbors(self.ids[part], self.distances[part], codes)

    def without_missing(self) -> "Neighbors":
        """Without the places at the end whose distance, -1, says that no row is there."""
        if not len(self) or self.distances[-1] >= 0:
            return self
        return self.first(int((self.distances >= 0).sum()))

    @classmethod
    def empty(cls) -> "Neighbors":
        """No rows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Neighbors({listed(self.ids.tolist(), self.distances.tolist())})"


@dataclass(frozen=True, repr=False)
class BatchNeighbors:
    """The rows nearest to each query of a batch, sorted by distance.

    Where fewer than `top_k` rows exist or pass the filter, the last places of a query have the distance -1 and the id
    -1, or "" where ids are strings. An integer id may be -1 too: the distance tells.

    Attributes:
        ids: int64 (q, top_k), or strings (q, top_k).
        distances: Hamming distances, int64 (q, top_k).

    Example:
        >>> batch = BatchNeighbors.padded(np.array([[7]]), np.array([[2]]), top_k=3)
        >>> batch.ids.tolist(), batch.distances.tolist(), batch[0]
        ([[7, -1, -1]], [[2, -1, -1]], Neighbors(1 rows: 7 at 2))
    """

    ids: np.ndarray
    distances: np.ndarray

    @classmethod
    def padded(cls, ids: np.ndarray, distances: np.ndarray, top_k: int) -> "BatchNeighbors":
        """From arrays (q, m), m <= top_k; a distance of -1 says that the place is empty."""
        nothing = -1 if ids.dtype.kind == "i" else ""
        if places := top_k - ids.shape[1]:
            missing = ((0, 0), (0, places))
            ids, distances = np.pad(ids, missing), np.pad(distances, missing, constant_values=-1)
        return cls(np.where(distances < 0, ids.dtype.type(nothing), ids), distances)

    @classmethod
    def of(cls, neighbors: Sequence[Neighbors], top_k: int) -> "BatchNeighbors":
        """From the neighbors of each query."""
        kinds = [some.ids.dtype for some in neighbors if len(some)]
        ids = np.zeros((len(neighbors), top_k), np.result_type(*kinds) if kinds else np.int64)
        distances = np.full(ids.shape, -1, np.int64)
        for query, some in enumerate(neighbors):
            ids[query, : len(some)], distances[query, : len(some)] = some.ids, some.distances
        return cls.padded(ids, distances, top_k)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, query: int) -> Neighbors:
        return Neighbors(self.ids[query], self.distances[query]).without_missing()

    def __repr__(self) -> str:
        return f"BatchNeighbors({self.ids.shape[0]} queries, top_k {self.ids.shape[1]})"
