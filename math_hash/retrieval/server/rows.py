"""The routes that add, delete and show rows."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Query, UploadFile

from math_hash.retrieval.metadata import for_javascript
from math_hash.retrieval.server.schemas import ERRORS, LONGEST_TEXT, RowId
from math_hash.retrieval.server.state import State

router = APIRouter(responses=ERRORS)


@router.post("/rows", status_code=201)
async def add(
    state: State,
    id: Annotated[RowId, Form()],
    metadata: Annotated[str, Form(max_length=100_000, description="a JSON object")] = "{}",
    text: Annotated[str | None, Form(min_length=1, max_length=LONGEST_TEXT)] = None,
    file: Annotated[UploadFile | None, File()] = None,
) -> dict[str, int]:
    """Add a row: the code of a text or of a picture. The picture itself is not kept."""
    if (text is None) == (file is None):
        raise HTTPException(422, "expected a text or a file, one of them")
    row_metadata = _json_object(metadata)
    content = await file.read() if file else b""

    def job() -> int:
        query = state.query_of_upload(content) if text is None else state.searcher.query("text", text)
        row_id = state.row_id(id)
        if state.index.rows([row_id])[0] is not None:
            raise HTTPException(409, "a row has that id already; delete it first")
        state.index.add([row_id], query.code, [row_metadata])
        state.facets.clear()
        return len(state.index)

    return {"count": await state.worker.run(job)}


@router.delete("/rows")
async def delete(state: State, id: Annotated[RowId, Query()]) -> dict[str, int]:
    """Delete a row."""

    def job() -> int:
        if not state.index.delete([state.row_id(id)]):
            raise HTTPException(404, "no row has that id")
        state.facets.clear()
        return len(state.index)

    return {"count": await state.worker.run(job)}


@router.get("/rows")
async def show_row(state: State, id: Annotated[RowId, Query()]) -> dict[str, Any]:
    """A row's metadata and code."""
    code, metadata = await state.worker.run(lambda: state.row(id))
    return for_javascript({"id": state.row_id(id), "code": code.tobytes().hex(), "metadata": metadata})


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "metadata: expected a JSON object") from error
    if not isinstance(value, dict):
        raise HTTPException(422, "metadata: expected a JSON object")
    return value
