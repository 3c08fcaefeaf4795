"""The routes that search: by a text, a picture, a row, a code, or several of them at once."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, UploadFile

from math_hash.retrieval.metadata import for_javascript
from math_hash.retrieval.results import SearchResults
from math_hash.retrieval.searcher import EncodedQuery
from math_hash.retrieval.server.schemas import (
    ERRORS,
    LONGEST_TEXT,
    CodeQuery,
    IdQuery,
    Offset,
    Radius,
    Result,
    RowId,
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
    offset: Annotated[Offset, Query()] = 0,
    fold: Annotated[Radius, Query()] = None,
) -> SearchOptions:
    try:
        return SearchOptions(top_k=top_k, radius=radius, where=json.loads(where), offset=offset, fold=fold)
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


@router.post("/combined")
async def search_combined(
    state: State,
    options: Annotated[SearchOptions, Depends(_options_of_url)],
    text: Annotated[str | None, Form(min_length=1, max_length=LONGEST_TEXT)] = None,
    id: Annotated[RowId | None, Form()] = None,
    file: Annotated[UploadFile | None, File()] = None,
) -> SearchResponse:
    """The rows nearest to a text, a row of the index and an uploaded picture together, two of them or all."""
    if sum(part is not None for part in (text, id, file)) < 2:
        raise HTTPException(422, "expected two of text, id and file, or all of them")
    content = await file.read() if file else b""

    def query() -> EncodedQuery:
        parts = [] if text is None else [state.searcher.query("text", text)]
        parts += [] if id is None else [EncodedQuery(state.row(id)[0][None])]
        parts += [] if file is None else [state.query_of_upload(content)]
        return state.searcher.combined(parts)

    return await _search(state, query, options)


@router.post("/code")
async def search_code(state: State, query: CodeQuery) -> SearchResponse:
    """The rows nearest to a code."""
    code = np.frombuffer(bytes.fromhex(query.code), np.uint8)[None]
    return await _search(state, lambda: EncodedQuery(code), query)


async def _search(state: ServerState, query_of: Callable[[], EncodedQuery], options: SearchOptions) -> SearchResponse:
    """Search for the query that `query_of` returns. Both run in the worker."""
    start = time.perf_counter()

    def job() -> SearchResults:
        return state.searcher.search(
            query_of(), options.top_k, options.radius, options.where, options.offset, options.fold
        )

    answer = await state.worker.run(job)
    return SearchResponse(
        results=[
            Result(**for_javascript({**vars(result), "duplicate_of": answer.duplicates.get(result.id)}))
            for result in answer.results
        ],
        notes=answer.notes,
        nothing_close=answer.nothing_close,
        seconds=time.perf_counter() - start,
    )
