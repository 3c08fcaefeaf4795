"""The search page for people."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def show_page() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/favicon.ico")
async def icon() -> Response:
    return Response(status_code=204)
