"""A search by a text or a picture: candidates by Hamming distance, reranked, and whether anything close was found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from math_hash.errors import InputError
from math_hash.hamming.codes import binarize, pack
from math_hash.retrieval.ids import Id
from math_hash.retrieval.index import Index, Neighbors
from math_hash.retrieval.rerank import Scorer, asymmetric_scorer, reranked, stored_scorer

if TYPE_CHECKING:
    from PIL import Image

    from math_hash.models.code_model import CodeModel, Modality

Rerank = Literal["asymmetric", "continuous", "vectors", "none"]
RERANKS: tuple[str, ...] = get_args(Rerank)
CANDIDATES = 200


@dataclass(frozen=True)
class EncodedQuery:
    """What is searched for.

    Attributes:
        code: packed, uint8 (1, ceil(k / 8)).
        modality: "image" or "text"; None if only a code is known.
        values: what reranking compares, float32 (k,) or (d,); None: nothing, candidates are not reranked.
        is_unlike_training: it is unlike the pictures or the texts that the model was trained on.
    """

    code: np.ndarray
    modality: "Modality | None" = None
    values: np.ndarray | None = None
    is_unlike_training: bool = False


@dataclass(frozen=True)
class Result:
    """One row that a search returned, and its Hamming distance."""

    id: Id
    distance: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a search returned.

    Attributes:
        results: the rows, the nearest first.
        notes: one line each, for people: that nothing close was found, that the query is unlike the training data.
        nothing_close: the nearest row is further away than the model's threshold; False if it has none.
    """

    results: list[Result]
    notes: list[str]
    nothing_close: bool


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
            or was encoded without what is compared.
    """

    def __init__(
        self,
        index: Index,
        model: "CodeModel | None",
        rerank: Rerank = "asymmetric",
        codes: str | os.PathLike[str] | None = None,
        candidates: int = CANDIDATES,
    ):
        self.index, self.model, self.candidates = index, model, candidates
        self._compares_vectors = rerank == "vectors"
        self._scorer: Scorer | None = None
        if model is None:
            return
        index.require_model(model.fingerprint, model.k_bits)
        if self._compares_vectors and not model.gives_vectors:
            raise InputError("--rerank vectors: this model's format gives codes only; use the run it was exported from")
        if rerank == "asymmetric":
            self._scorer = asymmetric_scorer(index)
        if rerank == "continuous" or rerank == "vectors":
            if codes is None:
                raise InputError(f"--rerank {rerank}: needs --codes FOLDER, the codes that the index was made of")
            from math_hash.retrieval.codes_folder import CodesFolder

            folder = CodesFolder.open(Path(codes))
            folder.require_model(model.fingerprint)
            self._scorer = stored_scorer(folder.with_bits(model.k_bits), rerank)
        elif codes is not None:
            raise InputError(f"--codes {codes}: is not read with --rerank {rerank}, only with continuous or vectors")

    def query(self, modality: "Modality", item: "str | Path | Image.Image") -> EncodedQuery:
        """The query for a text, or for a picture or the file that holds it.

        Raises:
            InputError: the picture cannot be read.
        """
        if self.model is None:
            raise InputError(f"searching for a {modality} needs a model (--model)")
        encoded = self.model.encode_query(modality, item)
        values = encoded.vector if self._compares_vectors else encoded.continuous
        code = pack(binarize(encoded.continuous[None]))
        return EncodedQuery(code, modality, values, encoded.is_unlike_training)

    def search(
        self,
        query: EncodedQuery,
        top_k: int | None = 10,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The rows that answer a query.

        Args:
            top_k: number of results; None: all within `radius`.
            radius: only rows within this Hamming distance.
            where: filter, as `Index.search` takes it.

        Raises:
            InputError: see `Index.search`, or a candidate is not in the folder to rerank with.
        """
        scorer = None if query.values is None else self._scorer
        count = max(self.candidates, top_k or 1) if scorer else top_k or 1
        if radius is None:
            [found] = self.index.search(query.code, count, where)
        else:
            [found] = self.index.search_radius(query.code, radius, where)
        nearest = int(found.distances[0]) if len(found) else None
        if scorer and query.values is not None and len(found):
            found = reranked(found, scorer(query.values, found.first(count)))
        results = self._results(found.first(top_k))
        limit = self._threshold(query, results)
        nothing_close = limit is not None and nearest is not None and nearest > limit
        notes = []
        if nothing_close:
            notes.append(f"nothing close was found: the nearest is at distance {nearest}, above {limit}")
        if query.is_unlike_training:
            notes.append(f"this {query.modality} is unlike those that the model was trained on")
        return Answer(results, notes, nothing_close)

    def _results(self, neighbors: Neighbors) -> list[Result]:
        ids = neighbors.ids.tolist()
        rows = zip(ids, neighbors.distances.tolist(), self.index.rows(ids), strict=True)
        return [Result(row_id, distance, row[1]) for row_id, distance, row in rows if row]

    def _threshold(self, query: EncodedQuery, results: list[Result]) -> int | None:
        """The model's threshold for the modality of the query and of the rows: images, if their metadata names some."""
        if query.modality is None or not results or self.model is None or not self.model.thresholds:
            return None
        return self.model.thresholds.get(f"{query.modality}->{'image' if results[0].metadata.get('image') else 'text'}")
