"""A search server: a JSON interface (FastAPI), and a page for people.

The model and the index work in one thread behind a bounded queue: while the queue is full, requests are refused at
once with 503, so that an overloaded server stays responsive. Uploads are bounded in bytes and in pixels. Pictures are
served by the id of a row, and only from the collection's folder.
"""

import asyncio
import os
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from math_hash.errors import InputError
from math_hash.models.code_model import CodeModel
from math_hash.retrieval.index import Index
from math_hash.retrieval.searcher import CANDIDATES, Rerank, Searcher
from math_hash.retrieval.server import facets, health, page, pictures, rows, search
from math_hash.retrieval.server.limits import Busy, Gate, Traffic, Worker, error_response
from math_hash.retrieval.server.serve import serve
from math_hash.retrieval.server.state import ServerState

__all__ = ["make_app", "serve"]


def make_app(
    index: Index,
    model: CodeModel,
    images: str | os.PathLike[str] | None = None,
    *,
    token: str = "",
    is_public: bool = False,
    max_bytes: int = 20_000_000,
    max_pixels: int = 50_000_000,
    queue: int = 32,
    seconds: float = 30.0,
    rerank: Rerank = "asymmetric",
    codes: str | os.PathLike[str] | None = None,
    candidates: int = CANDIDATES,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        index: what it searches.
        model: what encodes texts and pictures.
        images: folder of the collection's pictures; None: no pictures are served.
        token: needed for adding and deleting, and where `is_public` for everything but the page and `/health`;
            "": rows can be neither added nor deleted.
        is_public: the server listens beyond this machine.
        max_bytes: of a request.
        max_pixels: of an uploaded picture.
        queue: requests that may wait for the model.
        seconds: time limit of a request.
        rerank, codes, candidates: how results are ordered, as `Searcher` takes it.

    Raises:
        InputError: model, index and codes do not belong together, or a public server has no token.
    """
    searcher = Searcher(index, model, rerank, codes, candidates)
    if is_public and not token:
        raise InputError("`host`: listening beyond this machine needs `token`")
    traffic = Traffic()
    description = "Search pictures and texts by the Hamming distance of their codes."
    app = FastAPI(title="math_hash", description=description, version="1", docs_url=None, redoc_url=None)
    app.state.server = ServerState(
        index=index,
        model=model,
        searcher=searcher,
        worker=Worker(queue, seconds),
        traffic=traffic,
        image_root=None if images is None else Path(images).resolve(),
        max_pixels=max_pixels,
        is_public=is_public,
    )
    app.add_middleware(
        Gate, token=token, is_public=is_public, max_bytes=max_bytes, seconds=seconds + 5, traffic=traffic
    )
    _answer_errors(app, seconds)
    for routes in (page, search, facets, rows, pictures, health):
        app.include_router(routes.router)
    return app


def _answer_errors(app: FastAPI, seconds: float) -> None:
    """Turn errors of the index, the model and the worker into answers that say why."""

    @app.exception_handler(InputError)
    async def on_input_error(request: Request, error: InputError) -> JSONResponse:
        return error_response(400, " ".join(str(error).split()))

    @app.exception_handler(UnicodeError)
    @app.exception_handler(OverflowError)
    async def on_odd_value(request: Request, error: Exception) -> JSONResponse:
        return error_response(400, "a value is no valid text or number")

    @app.exception_handler(Busy)
    async def on_busy(request: Request, error: Busy) -> JSONResponse:
        return error_response(503, "too many requests at once; try again in a second", {"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    @app.exception_handler(asyncio.TimeoutError)
    async def on_timeout(request: Request, error: Exception) -> JSONResponse:
        return error_response(504, f"no answer within {seconds:g} seconds")
