"""What the routes of a server share."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, HTTPException, Request

from math_hash.models.code_model import CodeModel
from math_hash.retrieval.ids import Id, as_id
from math_hash.retrieval.index import Index
from math_hash.retrieval.searcher import EncodedQuery, Searcher
from math_hash.retrieval.server.limits import Traffic, Worker, read_upload
from math_hash.retrieval.server.schemas import Facets
from math_hash.retrieval.thumbnail import ThumbnailCache


@dataclass(frozen=True)
class ServerState:
    """The index, the model and the options of a server. Everything that touches index or model runs in the worker.

    searcher: searches the index with the model.
    image_root: folder of the collection's pictures; None: no pictures are served.
    max_pixels: of an upload.
    is_public: the server listens beyond this machine.
    thumbnails: of the pictures that were shown last.
    facets: what is in the collection, by its number of rows; the last answer alone is kept.
    facets_lock: held while rows are counted, so that they are counted once.
    """

    index: Index
    model: CodeModel
    searcher: Searcher
    worker: Worker
    traffic: Traffic
    image_root: Path | None
    max_pixels: int
    is_public: bool
    thumbnails: ThumbnailCache = field(default_factory=ThumbnailCache)
    facets: dict[int, Facets] = field(default_factory=dict)
    facets_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def row_id(self, name: str) -> Id:
        """The id that a request names; ids arrive as text, also where the index has integers."""
        return as_id(name, self.index.id_kind)

    def row(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """The packed code, uint8 (ceil(k_bits / 8),), and the metadata of a row.

        Raises:
            HTTPException: 404 where no row has that id.
        """
        row = self.index.rows([self.row_id(name)])[0]
        if row is None:
            raise HTTPException(404, "no row has that id")
        return row

    def query_of_upload(self, content: bytes) -> EncodedQuery:
        """The query for an uploaded picture.

        Raises:
            HTTPException: see `read_upload`.
        """
        return self.searcher.query("image", read_upload(content, self.max_pixels))


async def _state_of(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(_state_of)]
