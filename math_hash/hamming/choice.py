"""Choosing an exact structure for codes, from the codes themselves.

Structures are compiled by numba, which takes longer to import than few codes take to scan: only who needs one does so.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from math_hash.hamming.structure import Structure

_MOST_ROWS = 2**32 - 1  # structures store row numbers in 4 bytes
_FEWEST_ROWS = 10_000  # a scan of fewer takes microseconds
_SAMPLE, _TOP = 64, 100  # rows that are searched for to estimate what a search costs, and the neighbors of each
_GAIN = 2  # a structure is kept if it is this many times as fast as the scan


def build(database: np.ndarray, k_bits: int, name: str | None = None) -> "Structure | None":
    """Build the structure of this name, or by default the one that is fastest for these codes; None for the scan.

    A bucket table is built for short codes (2^k_bits <= n), or few distinct ones. Else multi-index hashing is built,
    and kept if searching for some rows of the database costs half a scan or less.

    Args:
        database: uint64 (words, n), from `codes.as_planes`.
        name: bucket, mih or scan.

    Example:
        >>> few = np.random.default_rng(0).integers(0, 50, (1, 20_000), np.uint64)
        >>> build(few, 64).name
        'bucket'
    """
    n = database.shape[1]
    if name == "scan" or not 0 < n <= _MOST_ROWS or (name is None and n < _FEWEST_ROWS):
        return None
    from math_hash.hamming.buckets import DistinctCodes, are_short, build_buckets
    from math_hash.hamming.substring_tables import SubstringTables

    if name == "bucket":
        return build_buckets(database, k_bits)
    if name == "mih":
        return SubstringTables.build(database, k_bits)
    if are_short(database, k_bits) or DistinctCodes.rows_per_step * _count_distinct(database) <= n / _GAIN:
        return build_buckets(database, k_bits)
    structure = SubstringTables.build(database, k_bits)
    sample = np.sort(np.random.default_rng(0).choice(n, _SAMPLE, replace=False))
    queries = np.ascontiguousarray(database[:, sample].T).view(np.uint8)
    return structure if structure.cost(queries, _TOP) <= n / _GAIN else None


def read(name: str, database: np.ndarray, k_bits: int, arrays: Mapping[str, np.ndarray]) -> "Structure":
    """The structure of this name with the arrays that it had when it was built."""
    from math_hash.hamming.buckets import Balls, DistinctCodes
    from math_hash.hamming.substring_tables import SubstringTables

    kind = DistinctCodes if "codes" in arrays else Balls if name == "bucket" else SubstringTables
    return kind(database, k_bits, arrays)


def _count_distinct(database: np.ndarray) -> int:
    """Number of distinct codes, uint64 (words, n); those of several words are counted by a hash of 64 bits."""
    mixed = database[0].copy()
    for word in database[1:]:
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15) + word
    mixed.sort()
    return 1 + int((mixed[1:] != mixed[:-1]).sum())
