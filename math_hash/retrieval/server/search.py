"""The routes that search: by a text, a picture, a row, or a code."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, HTTPException, Query, UploadFile

from math_hash.retrieval.metadata import for_javascript
from math_hash.retrieval.searcher import Answer, EncodedQuery
from math_hash.retrieval.server.schemas import (
    ERRORS,
    CodeQuery,
    IdQuery,
    Radius,
    Result,
    SearchOptions,
    SearchResponse,
    TextQuery,
    TopK,
)
from math_hash.retrieval.server.state import ServerState, State

router = APIRouter(prefix="/search", responses=ERRORS)


@router.post("/text")
async def search_text(state: State, query: TextQuery) -> SearchResponse:
    """The rows nearest to a text."""
    return await _search(state, lambda: state.searcher.query("text", query.text), query)


async def _options_of_url(
    top_k: Annotated[TopK, Query()] = 20,
    radius: Annotated[Radius, Query()] = None,
    where: Annotated[str, Query(max_length=4000, description="a JSON object")] = "{}",
) -> SearchOptions:
    try:
        return SearchOptions(top_k=top_k, radius=radius, where=json.loads(where))
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "where: expected a JSON object of names and values") from error


@router.post("/image")
async def search_image(
    state: State, file: Annotated[UploadFile, File()], options: Annotated[SearchOptions, Depends(_options_of_url)]
) -> SearchResponse:
    """The rows nearest to an uploaded picture."""
    content = await file.read()
    return await _search(state, lambda: state.query_of_upload(content), options)


@router.post("/id")
async def search_id(state: State, query: IdQuery) -> SearchResponse:
    """The rows nearest to a row of the index."""
    return await _search(state, lambda: EncodedQuery(state.row(query.id)[0][None]), query)


@router.post("/code")
async def search_code(state: State, query: CodeQuery) -> SearchResponse:
    """The rows nearest to a code."""
    code = np.frombuffer(bytes.fromhex(query.code), np.uint8)[None]
    return await _search(state, lambda: EncodedQuery(code), query)


async def _search(state: ServerState, query_of: Callable[[], EncodedQuery], options: SearchOptions) -> SearchResponse:
    """Search for the query that `query_of` returns. Both run in the worker."""
    start = time.perf_counter()

    def job() -> Answer:
        return state.searcher.search(query_of(), options.top_k, options.radius, options.where)

    answer = await state.worker.run(job)
    return SearchResponse(
        results=[Result(**for_javascript(vars(result))) for result in answer.results],
        notes=answer.notes,
        nothing_close=answer.nothing_close,
        seconds=time.perf_counter() - start,
    )
