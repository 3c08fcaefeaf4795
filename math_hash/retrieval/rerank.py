"""Reranking: candidates that were found by Hamming distance, in an order that tells more of them apart.

`asymmetric` compares the query's continuous code with the rows' stored bits and needs nothing but the index;
`continuous` and `vectors` compare it with what a folder of codes keeps of each row besides its code.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.asymmetric import asymmetric_scores
from math_hash.retrieval.neighbors import Neighbors

if TYPE_CHECKING:
    from math_hash.retrieval.codes_folder import CodesFolder

Scorer = Callable[[np.ndarray, Neighbors], np.ndarray]  # a query's values (k,) or (d,), and n candidates: scores (n,)


def asymmetric_scorer(codes_of: Callable[[np.ndarray], np.ndarray]) -> Scorer:
    """Scores a query's continuous code, float (k,), against the bits of the rows; see `asymmetric_scores`.

    Args:
        codes_of: the packed codes of ids, as `Index.codes_of` returns them.
    """

    def scores(query: np.ndarray, candidates: Neighbors) -> np.ndarray:
        codes = candidates.codes if candidates.codes is not None else codes_of(candidates.ids)
        return asymmetric_scores(query[None], codes)[0]

    return scores


def stored_scorer(folder: "CodesFolder", kept: Literal["continuous", "vectors"]) -> Scorer:
    """Scores a query by its cosine with the rows' continuous codes or int8 encoder vectors, which stay on the disk.

    The scorer raises InputError where an id is not in the folder.

    Raises:
        InputError: the folder was encoded without them.
    """
    rows = folder.continuous if kept == "continuous" else folder.vectors
    if rows is None:
        flag = "--continuous" if kept == "continuous" else "--vectors int8"
        raise InputError(f"{folder.path}: holds no {kept} to rerank with; encode with {flag}")
    place_of = {row_id: place for place, (row_id, _) in enumerate(folder.rows())}

    def scores(query: np.ndarray, candidates: Neighbors) -> np.ndarray:
        try:
            places = [place_of[row_id] for row_id in candidates.ids.tolist()]
        except KeyError as error:
            raise InputError(f"id {error}: not in {folder.path}; give the codes that the index was made of") from error
        values = np.asarray(rows[places], np.float32)
        return (values @ query) / np.maximum(np.linalg.norm(values, axis=1), 1e-12)

    return scores


def reranked(candidates: Neighbors, scores: np.ndarray) -> Neighbors:
    """The first rows, as many as there are scores, by score, the highest first; ties, and the rows after, stay.

    Example:
        >>> candidates = Neighbors(np.array([5, 6, 7, 8]), np.array([1, 1, 2, 2]))
        >>> reranked(candidates, np.array([0.1, 0.9, 0.1])).ids.tolist()
        [6, 5, 7, 8]
    """
    order = np.arange(len(candidates))
    order[: len(scores)] = np.argsort(-scores, kind="stable")
    codes = None if candidates.codes is None else candidates.codes[order]
    return Neighbors(candidates.ids[order], candidates.distances[order], codes)
