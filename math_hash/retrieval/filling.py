"""Putting a folder of codes into an index, so that a call that was killed can be continued."""

import itertools
import os

import numpy as np
from tqdm import tqdm

from math_hash.errors import InputError
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.index import Index

_BATCH = 50_000  # rows added at once


def fill(index: Index, folder: CodesFolder, progress: bool = False) -> None:
    """Add all rows of a folder of codes, and save the index.

    An embedded index remembers what is being put in. Called again after a kill, with the same codes, this passes over
    the rows that are there already.

    Raises:
        InputError: an id is there already, other codes were not put in to their end, or the engine refuses.
    """
    source, begun = os.path.abspath(folder.path), index.unfinished
    if begun not in ("", source):
        raise InputError(f"{index.uri}: go on with {begun} first (`math-hash index {begun} --output {index.uri}`)")
    index.set_unfinished(source)
    rows, start, added = folder.rows(), 0, bool(begun)
    try:
        with tqdm(total=folder.config["count"], desc="indexing", unit="code", disable=not progress) as bar:
            while block := list(itertools.islice(rows, _BATCH)):
                codes = folder.codes[start : start + len(block)]
                missing = _missing(index, block, codes) if begun else list(range(len(block)))
                index.add([block[p][0] for p in missing], codes[missing], [block[p][1] for p in missing])
                added, start = True, start + len(block)
                bar.update(len(block))
    finally:
        if not added:  # the first rows were refused: nothing is to be gone on with
            index.set_unfinished("")
    index.save()
    index.set_unfinished("")


def _missing(index: Index, block: list[tuple[str, dict]], codes: np.ndarray) -> list[int]:
    """Places of the rows of a block that are not in the index yet.

    Raises:
        InputError: an id is there with another code or other metadata.
    """
    there = index.rows([row_id for row_id, _ in block])
    for (row_id, metadata), code, row in zip(block, codes, there, strict=True):
        if row and not (row[1] == metadata and (row[0] == code).all()):
            raise InputError(f"{index.uri}: id {row_id!r} is there already, with another code or metadata")
    return [place for place, row in enumerate(there) if row is None]
