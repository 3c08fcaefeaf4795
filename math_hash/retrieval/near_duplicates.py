"""Rows of an index that are near each other: pairs, and the groups that these make."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from math_hash.retrieval.neighbors import Neighbors

if TYPE_CHECKING:
    from math_hash.hamming.join import Pairs


class NearDuplicates(Protocol):
    """The searches of an index for rows that are near to other rows of it."""

    k_bits: int

    def all_codes(self) -> tuple[np.ndarray, np.ndarray]: ...

    def pairs_within(self, radius: int, progress: bool = False) -> Iterator["Pairs"]:
        """All pairs of rows at a distance <= `radius`, each once, the row that was added first in front. Embedded only.

        Args:
            radius: from 0 to k_bits.
            progress: show a progress bar.

        Returns:
            An iterator over chunks of at most a million pairs, in no particular order, so that memory is bounded: the
            ids of the first and the second rows, each (m,), and their distances, int64 (m,).

        Raises:
            InputError: the radius is out of range, or the engine cannot hand out its rows.
        """
        from math_hash.hamming.join import Pairs, pairs_within  # numba: adding rows does without

        ids, codes = self.all_codes()
        chunks = pairs_within(codes, self.k_bits, radius, progress)
        return (Pairs(ids[first], ids[second], distances.astype(np.int64)) for first, second, distances in chunks)

    def duplicate_groups(self, radius: int, progress: bool = False) -> list[Neighbors]:
        """Group the rows that are connected by pairs within `radius`, the largest group first. Embedded only.

        Rows of one group may be further apart than the radius, where a chain of pairs connects them.

        Returns:
            Each group of two rows or more as the neighbors of its first row, the one that was added first, which is
            among them: ids and distances to it, sorted by distance.

        Raises:
            InputError: as `pairs_within`.
        """
        from math_hash.hamming.groups import near_duplicates  # SciPy's graphs: searches do without

        ids, codes = self.all_codes()
        return [
            Neighbors(ids[rows], distances) for rows, distances in near_duplicates(codes, self.k_bits, radius, progress)
        ]
