"""A search by texts and pictures: candidates by Hamming distance, reranked, and whether anything close was found."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.codes import as_signs, as_words, binarize, pack, unpack
from math_hash.retrieval.ids import Id
from math_hash.retrieval.neighbors import Neighbors
from math_hash.retrieval.rerank import Scorer, asymmetric_scorer, reranked, stored_scorer
from math_hash.retrieval.results import Result, SearchResults

if TYPE_CHECKING:
    from math_hash.models.code_model import CodeModel, Modality, Picture

Rerank = Literal["asymmetric", "continuous", "vectors", "none"]
RERANKS: tuple[str, ...] = get_args(Rerank)
CANDIDATES = 200


class Searchable(Protocol):
    """What a `Searcher` needs of an index, as `Index` explains it."""

    image_root: Path | None
    k_bits: int

    def search(self, codes: np.ndarray, top_k: int = 10, where: Mapping[str, Any] | None = None) -> list[Neighbors]: ...

    def search_radius(
        self, codes: np.ndarray, radius: int, where: Mapping[str, Any] | None = None
    ) -> list[Neighbors]: ...

    def rows(self, ids: Sequence[Id] | np.ndarray) -> list[tuple[np.ndarray, dict[str, Any]] | None]: ...

    def codes_of(self, ids: Sequence[Id] | np.ndarray) -> np.ndarray: ...

    def require_model(self, fingerprint: str, k_bits: int) -> None: ...


@dataclass(frozen=True)
class EncodedQuery:
    """What is searched for.

    Attributes:
        code: packed, uint8 (1, ceil(k / 8)).
        modality: "image" or "text"; None if only a code is known.
        values: what reranking compares, float32 (k,) or (d,); None: nothing, candidates are not reranked.
        is_unlike_training: it is unlike the pictures or the texts that the model was trained on.
        continuous: its continuous code, float32 (k,); None: only its signs, `code`, are known.
    """

    code: np.ndarray
    modality: "Modality | None" = None
    values: np.ndarray | None = None
    is_unlike_training: bool = False
    continuous: np.ndarray | None = None


class Searcher:
    """Searches an index for what a model encodes.

    Args:
        model: None: only codes are searched for, in order of distance.
        rerank: how the candidates are ordered: "asymmetric", by the query's continuous code and the rows' bits;
            "continuous" or "vectors", by the cosine with what `codes` holds of the rows; "none", by Hamming distance.
        codes: the folder of codes that the index was made of, for "continuous" and "vectors".
        candidates: rows that are reranked, or as many as there are results, if these are more.

    Raises:
        InputError: the index holds codes of another model; `codes` is missing, not needed, damaged, of another model,
            or was encoded without what is compared; a number of candidates without reranking.
    """

    def __init__(
        self,
        index: Searchable,
        model: "CodeModel | None",
        rerank: Rerank = "asymmetric",
        codes: str | os.PathLike[str] | None = None,
        candidates: int = CANDIDATES,
    ):
        if rerank == "none" and candidates != CANDIDATES:
            raise InputError(f"`candidates` {candidates}: are reranked, which `rerank` none does not; leave one out")
        self.index, self.model, self.candidates = index, model, candidates
        self._compares_vectors = rerank == "vectors"
        self._scorer: Scorer | None = None
        if model is None:
            return
        index.require_model(model.fingerprint, model.k_bits)
        if self._compares_vectors and not model.gives_vectors:
            raise InputError("`rerank` vectors: this model's format gives codes only; use the run it was exported from")
        if rerank == "asymmetric":
            self._scorer = asymmetric_scorer(index.codes_of)
        if rerank == "continuous" or rerank == "vectors":
            if codes is None:
                raise InputError(f"`rerank` {rerank}: needs `codes` FOLDER, the codes that the index was made of")
            from math_hash.retrieval.codes_folder import CodesFolder

            folder = CodesFolder.open(Path(codes))
            folder.require_model(model.fingerprint)
            self._scorer = stored_scorer(folder.with_bits(model.k_bits), rerank)
        elif codes is not None:
            raise InputError(f"`codes` {codes}: is not read with `rerank` {rerank}, only with continuous or vectors")

    def query(self, modality: "Modality", item: "Picture") -> EncodedQuery:
        """The query for a text or a picture.

        Raises:
            InputError: the picture cannot be read.
        """
        if self.model is None:
            raise InputError(f"searching for a {modality} needs a `model`")
        encoded = self.model.encode_query(modality, item)
        values = encoded.vector if self._compares_vectors else encoded.continuous
        code = pack(binarize(encoded.continuous[None]))
        return EncodedQuery(code, modality, values, encoded.is_unlike_training, encoded.continuous)

    def combined(self, queries: Sequence[EncodedQuery]) -> EncodedQuery:
        """One query for several, such as a picture and what should be different about it.

        Its continuous code is the sum of theirs, each scaled to length 1 so that all count the same. What is known by
        its code only counts with the signs of its bits. Vectors, if the searcher compares these, are added likewise.
        """
        k_bits = self.index.k_bits
        codes = [as_signs(unpack(q.code, k_bits))[0] if q.continuous is None else q.continuous for q in queries]
        continuous = _sum_of_directions(codes)
        values: np.ndarray | None = continuous
        if self._compares_vectors:
            vectors = [query.values for query in queries if query.values is not None]
            values = _sum_of_directions(vectors) if len(vectors) == len(queries) else None
        is_unlike_training = any(query.is_unlike_training for query in queries)
        return EncodedQuery(pack(binarize(continuous[None])), None, values, is_unlike_training, continuous)

    def search(
        self,
        query: EncodedQuery,
        top_k: int | None = 10,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
        offset: int = 0,
        fold: int | None = None,
    ) -> SearchResults:
        """The rows that answer a query.

        Args:
            top_k: number of results; None: all within `radius`.
            radius: only rows within this Hamming distance.
            where: filter, as `Index.search` takes it.
            offset: results to leave out at the beginning, for the pages after the first. Pages of the same `top_k` are
                parts of one ranking.
            fold: mark rows within this Hamming distance of an earlier result, on this page or one before.

        Raises:
            InputError: see `Index.search`, or a candidate is not in the folder to rerank with.
        """
        scorer = None if query.values is None else self._scorer
        count = max(self.candidates, top_k or 1) if scorer else top_k or 1
        if radius is None:
            [found] = self.index.search(query.code, max(count, offset + (top_k or 1)), where)
        else:
            [found] = self.index.search_radius(query.code, radius, where)
        nearest = int(found.distances[0]) if len(found) else None
        if scorer and query.values is not None and len(found):
            found = reranked(found, scorer(query.values, found.first(count)))
        duplicates = {} if fold is None else self._duplicates(found.first(top_k and offset + top_k), fold)
        results = self._results(found.first(top_k, offset))
        limit = self._threshold(query, results)
        nothing_close = limit is not None and nearest is not None and nearest > limit
        notes = []
        if nothing_close:
            notes.append(f"nothing close was found: the nearest is at distance {nearest}, above {limit}")
        if query.is_unlike_training:
            notes.append(f"this {query.modality} is unlike those that the model was trained on")
        return SearchResults(results, notes, nothing_close, self.index.image_root, duplicates)

    def _results(self, neighbors: Neighbors) -> list[Result]:
        ids = neighbors.ids.tolist()
        rows = zip(ids, neighbors.distances.tolist(), self.index.rows(ids), strict=True)
        return [Result(row_id, distance, row[1]) for row_id, distance, row in rows if row]

    def _duplicates(self, neighbors: Neighbors, radius: int) -> dict[Id, Id]:
        """The rows within `radius` of an earlier one that is itself no duplicate, each with the first such row."""
        ids = neighbors.ids.tolist()
        codes = as_words(self.index.codes_of(ids) if neighbors.codes is None else neighbors.codes)
        first_of = np.full(len(ids), -1)
        for place in range(len(ids)):
            if first_of[place] < 0:
                near = np.bitwise_count(codes[place + 1 :] ^ codes[place]).sum(axis=1) <= radius
                later = first_of[place + 1 :]
                later[near & (later < 0)] = place
        return {ids[place]: ids[first] for place, first in enumerate(first_of.tolist()) if first >= 0}

    def _threshold(self, query: EncodedQuery, results: list[Result]) -> int | None:
        """The model's threshold for the modality of the query and of the rows: images, if their metadata names some."""
        if query.modality is None or not results or self.model is None or not self.model.thresholds:
            return None
        return self.model.thresholds.get(f"{query.modality}->{'image' if results[0].metadata.get('image') else 'text'}")


def _sum_of_directions(values: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of vectors, each scaled to length 1, float32 (n,)."""
    return np.sum([value / max(float(np.linalg.norm(value)), 1e-12) for value in values], axis=0).astype(np.float32)
