"""Bringing an index up to date with rows that may be new, changed or the same."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.codes_folder import CodesFolder
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
    new, changed = compared(index, ids, codes, metadata)
    for places, replace in ((new, False), (changed, True)):
        index.add([ids[place] for place in places], codes[places], [metadata[place] for place in places], replace)
    return len(new), len(changed)


def compared(
    index: Index, ids: Sequence[Id], codes: np.ndarray, metadata: Sequence[Mapping[str, Any]]
) -> tuple[list[int], list[int]]:
    """Places of the rows whose ids are not in the index, and of those that are there with another code or metadata."""
    known = index.rows(ids)
    new = [place for place, row in enumerate(known) if row is None]
    changed = [
        place
        for place, row in enumerate(known)
        if row is not None and (row[0].tobytes() != codes[place].tobytes() or row[1] != metadata[place])
    ]
    return new, changed


def begin(index: Index, folder: CodesFolder, prune: bool = False) -> str:
    """Record that the codes of a folder are being put in, until `set_unfinished("")`.

    Returns:
        What was recorded before: this folder, where the call that began was killed, else "".

    Raises:
        InputError: other codes were not put in to their end, whose rows are not removed now (`prune`).
    """
    source, begun = os.path.abspath(folder.path), index.unfinished
    if begun not in ("", source) and not prune:
        raise InputError(f"{index.uri}: go on with {begun} first (`math-hash index {begun} --output {index.uri}`)")
    index.set_unfinished(source)
    return begun


def update_to(index: Index, folder: CodesFolder, prune: bool, progress: bool = False) -> tuple[int, int, int]:
    """Bring an index up to date with a folder of codes, and save it.

    Args:
        index: what holds the rows.
        folder: the codes.
        prune: remove rows whose ids the folder lacks.
        progress: show a progress bar.

    Returns:
        How many rows were added, replaced and removed.

    Raises:
        InputError: as `Index.add`, or as `begin`.
    """
    before, added, replaced = len(index), 0, 0
    begun = begin(index, folder, prune)
    surplus = set(index.ids().tolist()) if prune else set()
    try:
        for ids, codes, metadata in folder.blocks(progress):
            changes = update(index, ids, codes, metadata)
            added, replaced = added + changes[0], replaced + changes[1]
            surplus.difference_update(ids)
    except InputError:
        if len(index) == before and not replaced:  # the first rows were refused: nothing is to be gone on with
            index.set_unfinished(begun)
        raise
    index.delete(list(surplus))
    index.save()
    index.set_unfinished("")
    return added, replaced, len(surplus)
