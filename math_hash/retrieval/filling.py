"""Putting a folder of codes into an index, so that a call that was killed can be continued."""

from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.index import Index
from math_hash.retrieval.update import begin, compared


def fill(index: Index, folder: CodesFolder, progress: bool = False) -> None:
    """Add all rows of a folder of codes, and save the index.

    An embedded index remembers what is being put in. Called again after a kill, with the same codes, this passes over
    the rows that are there already.

    Raises:
        InputError: an id is there already, other codes were not put in to their end, or the engine refuses.
    """
    begun = begin(index, folder)
    added = bool(begun)
    try:
        for ids, codes, metadata in folder.blocks(progress):
            missing = _missing(index, ids, codes, metadata) if begun else list(range(len(ids)))
            index.add([ids[p] for p in missing], codes[missing], [metadata[p] for p in missing])
            added = True
    finally:
        if not added:  # the first rows were refused: nothing is to be gone on with
            index.set_unfinished("")
    index.save()
    index.set_unfinished("")


def _missing(index: Index, ids: list[str], codes: np.ndarray, metadata: list[dict[str, Any]]) -> list[int]:
    """Places of the rows of a block that are not in the index yet.

    Raises:
        InputError: an id is there with another code or other metadata.
    """
    new, changed = compared(index, ids, codes, metadata)
    if changed:
        name = ids[changed[0]]
        raise InputError(
            f"{index.uri}: id {name!r} is there already, with another code or metadata; go on with `update`"
        )
    return new
