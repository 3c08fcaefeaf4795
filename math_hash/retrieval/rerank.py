"""Reranking: candidates that were found by Hamming distance, ordered by the cosine of continuous codes."""

from collections.abc import Sequence

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.neighbors import Neighbors


class Reranker:
    """Continuous codes of a collection, by id; they stay on the disk.

    Raises:
        InputError: the folder was encoded without `--continuous`.
    """

    def __init__(self, folder: CodesFolder):
        if folder.continuous is None:
            raise InputError(f"{folder.path}: holds no continuous codes; encode with --continuous")
        self.continuous = folder.continuous
        self._place = {row_id: place for place, (row_id, _) in enumerate(folder.rows())}

    def __call__(self, queries: np.ndarray, candidates: Sequence[Neighbors], top_k: int) -> list[Neighbors]:
        """The first `top_k` candidates of each query by cosine, the nearest first; Hamming distances are kept.

        Args:
            queries: continuous codes, float (q, k).
            candidates: of each query, as `Index.search` gives them.

        Raises:
            InputError: a candidate is not in the folder.
        """
        pairs = zip(np.asarray(queries), candidates, strict=True)
        return [self._rerank(query, neighbors, top_k) for query, neighbors in pairs]

    def _rerank(self, query: np.ndarray, candidates: Neighbors, top_k: int) -> Neighbors:
        try:
            places = [self._place[name] for name in candidates.ids.tolist()]
        except KeyError as error:
            raise InputError(f"id {error}: not among the codes to rerank with; give the folder it is from") from error
        codes = np.asarray(self.continuous[places], np.float32)
        cosine = (codes @ query.astype(np.float32)) / np.maximum(np.linalg.norm(codes, axis=1), 1e-12)
        order = np.argsort(-cosine, kind="stable")[:top_k]
        return Neighbors(candidates.ids[order], candidates.distances[order])
