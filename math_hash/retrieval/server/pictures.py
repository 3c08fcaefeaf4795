"""The route that shows the picture of a row. Pictures are named by the row's id, never by a path."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from math_hash.retrieval.server.schemas import ERRORS, RowId
from math_hash.retrieval.server.state import State
from math_hash.retrieval.thumbnail import thumbnail

router = APIRouter(responses=ERRORS)


@router.get("/image", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def show_image(
    state: State,
    id: Annotated[RowId, Query()],
    size: Annotated[int, Query(ge=16, le=2048, description="longest side, in pixels")] = 320,
) -> Response:
    """A row's picture, scaled down."""
    _, metadata = await state.worker.run(lambda: state.row(id))
    content = await asyncio.to_thread(thumbnail, state.image_root, metadata, size) if state.image_root else None
    if not content:
        raise HTTPException(404, "that row has no picture that can be read here")
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
