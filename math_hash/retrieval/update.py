"""Bringing an index up to date with rows that may be new, changed or the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.ids import Id
from math_hash.retrieval.index import Index


def update(
    index: Index, ids: Sequence[Id], codes: np.ndarray, metadata: Sequence[Mapping[str, Any]]
) -> tuple[int, int]:
    """Add the rows whose ids are new, and replace those whose code or metadata has changed; others stay.

    Args:
        index: what holds the rows.
        ids: n ids.
        codes: packed, uint8 (n, ceil(k_bits / 8)).
        metadata: n JSON objects.

    Returns:
        How many rows were added, and how many were replaced.

    Raises:
        InputError: lengths differ, or as `Index.add`.

    >>> import tempfile
    >>> from math_hash.retrieval import open_index
    >>> with tempfile.TemporaryDirectory() as folder, open_index(f"{folder}/codes.index", k_bits=8) as index:
    ...     index.add(["same", "changed"], np.array([[0], [1]], np.uint8))
    ...     update(index, ["same", "changed", "new"], np.array([[0], [2], [3]], np.uint8), [{}, {}, {}])
    (1, 1)
    """
    if not len(ids) == len(codes) == len(metadata):
        raise InputError(f"update: {len(ids)} ids, {len(codes)} codes, {len(metadata)} metadata objects")
    known = index.rows(ids)
    new = [place for place, row in enumerate(known) if row is None]
    changed = [
        place
        for place, row in enumerate(known)
        if row is not None and (row[0].tobytes() != codes[place].tobytes() or row[1] != metadata[place])
    ]
    for places, replace in ((new, False), (changed, True)):
        index.add([ids[place] for place in places], codes[places], [metadata[place] for place in places], replace)
    return len(new), len(changed)
