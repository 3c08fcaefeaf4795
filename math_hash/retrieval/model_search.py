"""Searching an index by words or by a picture, which a model encodes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from math_hash.retrieval.results import SearchResults
from math_hash.retrieval.searcher import Searchable, Searcher

if TYPE_CHECKING:
    from math_hash.models.code_model import CodeModel, Modality, Picture


class ModelSearch(Searchable):
    """The searches of an index that need the model that made its codes."""

    _searcher: Searcher | None = None  # of the last model, whose weights are then read once for its fingerprint

    def search_text(
        self,
        model: "CodeModel",
        text: str,
        top_k: int | None = 10,
        *,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> SearchResults:
        """Find the rows that fit a text best, as `math-hash search --text` does.

        Args:
            model: the one that made the codes, as `load_model` gives it.
            top_k: number of results; None: all within `radius`. They are ordered by the query's continuous code and the
                rows' bits.
            radius: only rows within this Hamming distance.
            where: filter, see `Index`.

        Raises:
            InputError: the index holds codes of another model, or see `Index.search`.
        """
        return self._search_by_model(model, "text", text, top_k, radius, where)

    def search_image(
        self,
        model: "CodeModel",
        image: "Picture",
        top_k: int | None = 10,
        *,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> SearchResults:
        """Find the rows that fit a picture best. Otherwise as `search_text`.

        Args:
            image: a path, a PIL image, an array uint8 (h, w, 3), or a tensor uint8 (3, h, w).

        Raises:
            InputError: the picture cannot be read, or see `search_text`.
        """
        return self._search_by_model(model, "image", image, top_k, radius, where)

    def _search_by_model(
        self,
        model: "CodeModel",
        modality: "Modality",
        item: "Picture",
        top_k: int | None,
        radius: int | None,
        where: Mapping[str, Any] | None,
    ) -> SearchResults:
        searcher = self._searcher
        if searcher is None or searcher.model is not model:
            searcher = self._searcher = Searcher(self, model)
        return searcher.search(searcher.query(modality, item), top_k, radius, where)
