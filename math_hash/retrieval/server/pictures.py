"""The routes that show the picture of a row. Pictures are named by the row's id, never by a path."""

import asyncio
import mimetypes
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import Response

from math_hash.data.images import StoredImage, TarMember, image_bytes
from math_hash.retrieval.server.schemas import ERRORS, RowId
from math_hash.retrieval.server.state import ServerState, State
from math_hash.retrieval.thumbnail import picture_of

router = APIRouter(responses=ERRORS)
_NO_PICTURE = "that row has no picture that can be read here"


@router.get("/image", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def show_image(
    state: State,
    id: Annotated[RowId, Query()],
    size: Annotated[int, Query(ge=16, le=2048, description="longest side, in pixels")] = 320,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """A row's picture, scaled down."""
    picture = await _picture(state, id)
    version = await asyncio.to_thread(state.thumbnails.version, picture, size)
    headers = {"Cache-Control": "private, max-age=3600", "ETag": f'"{version}"'}
    if version and if_none_match and version in if_none_match:
        return Response(status_code=304, headers=headers)
    content = await asyncio.to_thread(state.thumbnails.thumbnail, picture, size, version) if version else None
    if not content:
        raise HTTPException(404, _NO_PICTURE)
    return Response(content, media_type="image/jpeg", headers=headers)


@router.get("/image/file", response_class=Response, responses={200: {"content": {"image/*": {}}}})
async def download_image(state: State, id: Annotated[RowId, Query()]) -> Response:
    """The file of a row's picture as it is, to be saved."""
    picture = await _picture(state, id)
    name = Path(picture.name if isinstance(picture, TarMember) else picture).name
    kind = mimetypes.guess_type(name)[0] or ""
    if not kind.startswith("image/"):
        raise HTTPException(404, _NO_PICTURE)
    try:
        content = await asyncio.to_thread(image_bytes, picture)
    except OSError as error:
        raise HTTPException(404, _NO_PICTURE) from error
    attachment = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(
        content, media_type=kind, headers={"Content-Disposition": attachment, "X-Content-Type-Options": "nosniff"}
    )


async def _picture(state: ServerState, name: str) -> StoredImage:
    """Where the picture of a row is stored.

    Raises:
        HTTPException: 404 where there is no such row, or it names no picture below the collection's folder.
    """
    _, metadata = await state.worker.run(lambda: state.row(name))
    picture = None if state.image_root is None else picture_of(state.image_root, metadata)
    if picture is None:
        raise HTTPException(404, _NO_PICTURE)
    return picture
