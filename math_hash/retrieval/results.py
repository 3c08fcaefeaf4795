"""The rows that a search for a text or a picture returns; a notebook shows them as pictures."""

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from math_hash.retrieval.ids import Id
from math_hash.retrieval.neighbors import listed

_STYLE = (
    "<style>.math-hash-results{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(160px,1fr))}"
    ".math-hash-results figure{margin:0;border:1px solid #8885;border-radius:8px;overflow:hidden}"
    ".math-hash-results img{width:100%;aspect-ratio:1;object-fit:cover;margin:0}"
    ".math-hash-results figcaption{padding:6px 8px;font-size:13px;overflow-wrap:anywhere}</style>"
)
_SIDE = 240  # pixels of a thumbnail


@dataclass(frozen=True)
class Result:
    """One row that a search returned, and its Hamming distance."""

    id: Id
    distance: int
    metadata: dict[str, Any]

    @property
    def labels(self) -> str:
        """Its labels, joined by commas; "" without any."""
        labels = self.metadata.get("labels") or self.metadata.get("label") or []
        return ", ".join(map(str, labels)) if isinstance(labels, list) else str(labels)

    @property
    def text(self) -> str:
        """Its text, or its picture's file where that is not its id; "" without either."""
        text, image = (str(self.metadata.get(name) or "") for name in ("text", "image"))
        return text or (image if image != self.id else "")


@dataclass(frozen=True, repr=False)
class SearchResults:
    """What a search returned: a sequence of `Result`, the nearest first.

    Attributes:
        results: the rows.
        notes: one line each, for people: that nothing close was found, that the query is unlike the training data.
        nothing_close: the nearest row is further away than the model's threshold; False if it has none.
        image_root: the folder that image paths start from, for thumbnails; None: none are shown.
        duplicates: ids of near duplicates, each with that of the earlier result; empty unless asked for.

    Example:
        >>> SearchResults([Result("a.jpg", 3, {"labels": ["dog"]})], [], False)
        SearchResults(1 rows: 'a.jpg' at 3)
    """

    results: list[Result]
    notes: list[str]
    nothing_close: bool
    image_root: Path | None = None
    duplicates: dict[Id, Id] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, rank: int) -> Result:
        return self.results[rank]

    def __repr__(self) -> str:
        rows = listed([result.id for result in self], [result.distance for result in self])
        return f"SearchResults({'; '.join([rows, *self.notes])})"

    def as_html(self) -> str:
        """A contact sheet, with thumbnails of the pictures that lie below `image_root`, and the notes above it."""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f'{notes}{_STYLE}<div class="math-hash-results">{"".join(map(self._figure, self))}</div>'

    _repr_html_ = as_html

    def _figure(self, result: Result) -> str:
        from math_hash.retrieval.thumbnail import thumbnail  # PyTorch: results without pictures do without

        picture = thumbnail(self.image_root, result.metadata, _SIDE) if self.image_root else None
        content = base64.b64encode(picture or b"").decode()
        image = f'<img alt="" src="data:image/jpeg;base64,{content}">' if picture else ""
        words = html.escape(result.text[:120] or str(result.id))
        return (
            f"<figure>{image}<figcaption><b>distance {result.distance}</b> {html.escape(result.labels)}<br>{words}"
            "</figcaption></figure>"
        )
