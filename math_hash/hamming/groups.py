"""Groups of near duplicates: the connected components of the pairs within a Hamming radius."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from math_hash.hamming.codes import as_words
from math_hash.hamming.join import Groups, join_groups, require_radius


def near_duplicates(
    packed: np.ndarray, k_bits: int, radius: int, progress: bool = False
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group rows that are connected by pairs within the radius; a chain of such pairs may lead further than it.

    Memory does not grow with the number of pairs, and rows of the same code are never paired up.

    Args:
        packed: codes, uint8 (n, ceil(k_bits / 8)).
        radius: from 0 to k_bits.
        progress: show a progress bar.

    Returns:
        For each group of two rows or more, the largest first (ties by first row): its rows, int64 (m,), and their
        Hamming distances to its first row, int64 (m,), sorted by distance, then by row. The first row is the lowest.

    Raises:
        InputError: the radius is out of range.

    >>> codes = np.array([[0b0000], [0b1111], [0b0001], [0b0111]], np.uint8)
    >>> [(rows.tolist(), distances.tolist()) for rows, distances in near_duplicates(codes, k_bits=8, radius=1)]
    [([0, 2], [0, 1]), ([1, 3], [0, 1])]
    """
    require_radius(radius, k_bits)
    groups, words = Groups.of(packed), as_words(packed)
    labels = np.empty(len(words), np.int64)  # of each row: its component
    labels[groups.rows] = np.repeat(_components(groups, k_bits, radius, progress), np.diff(groups.starts))
    sizes = np.bincount(labels)
    first = np.full(len(sizes), len(words))
    np.minimum.at(first, labels, np.arange(len(words)))
    rows = np.flatnonzero(sizes[labels] > 1)
    sizes, first = sizes[labels[rows]], first[labels[rows]]
    distances = np.bitwise_count(words[rows] ^ words[first]).sum(axis=1, dtype=np.int64)
    order = np.lexsort((rows, distances, first, -sizes))
    begins = np.flatnonzero(np.diff(first[order], prepend=-1))
    return list(zip(np.split(rows[order], begins)[1:], np.split(distances[order], begins)[1:], strict=True))


def _components(groups: Groups, k_bits: int, radius: int, progress: bool) -> np.ndarray:
    """The connected component of each distinct code, int (u,)."""
    count = groups.codes.shape[1]
    labels = np.arange(count)
    for pairs in join_groups(groups, k_bits, radius, progress):
        one, other = labels[pairs.first], labels[pairs.second]
        apart = one != other
        if apart.any():
            edges = coo_array((np.ones(apart.sum(), bool), (one[apart], other[apart])), shape=(count, count))
            count, merged = connected_components(edges, directed=False)
            labels = merged[labels]
    return labels
