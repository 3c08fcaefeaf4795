"""The search page for people: the files in `static/`, which need nothing from any other address."""

import mimetypes
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import Response

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # may be kept, but is asked for again, with its ETag
}
_TYPES = {".js": "text/javascript"}  # the system's own table may say otherwise

router = APIRouter(include_in_schema=False)


class _StaticFile(NamedTuple):
    content: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "_StaticFile":
        content = path.read_bytes()
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(content, kind, f'"{blake2b(content, digest_size=16).hexdigest()}"')


_FILES = {path.name: _StaticFile.read(path) for path in Path(__file__).with_name("static").iterdir() if path.is_file()}
IfNoneMatch = Annotated[str, Header(max_length=1000)]


@router.get("/")
async def show_page(if_none_match: IfNoneMatch = "") -> Response:
    return _answer("index.html", if_none_match)


@router.get("/static/{name}")
async def static_file(name: str, if_none_match: IfNoneMatch = "") -> Response:
    return _answer(name, if_none_match)


@router.get("/favicon.ico")
async def icon(if_none_match: IfNoneMatch = "") -> Response:
    return _answer("icon.svg", if_none_match)


def _answer(name: str, if_none_match: str) -> Response:
    if name not in _FILES:
        raise HTTPException(404, "no such file")
    content, media_type, etag = _FILES[name]
    headers = {**_HEADERS, "ETag": etag}
    if etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
