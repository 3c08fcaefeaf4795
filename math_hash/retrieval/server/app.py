"""A search server: a JSON interface (FastAPI), and a page for people.

The model and the index work in one thread behind a bounded queue: what does not fit is refused at once with 503, so
that an overloaded server stays as quick as it can be. Uploads are bounded in bytes and in pixels. Pictures are served
by the id of a row, and only from the collection's folder.
"""

import asyncio
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from math_hash.data.images import open_image
from math_hash.errors import InputError
from math_hash.models.model import CodeModel
from math_hash.retrieval.index import LONGEST_ID, Id, Index
from math_hash.retrieval.server.limits import Busy, Gate, Worker, problem
from math_hash.retrieval.thumbnail import thumbnail

LONGEST_TEXT = 10_000  # characters; encoders read far fewer
MOST_RESULTS = 1000

Value = Annotated[str, Field(max_length=1000)] | bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | float
TopK = Annotated[int, Field(ge=1, le=MOST_RESULTS, description="how many results")]
Radius = Annotated[int | None, Field(ge=0, le=4096, description="only rows within this Hamming distance")]
RowId = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]


class Wanted(BaseModel):
    """What every search may say."""

    model_config = ConfigDict(extra="forbid")
    top_k: TopK = 20
    radius: Radius = None
    where: dict[str, Value] = Field(default={}, max_length=16, description="metadata that results must have")


class TextQuery(Wanted):
    """Search by words."""

    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


class CodeQuery(Wanted):
    """Search by a packed code in hexadecimal digits."""

    code: str = Field(pattern="^([0-9a-fA-F]{2})+$", max_length=8192)


class IdQuery(Wanted):
    """Search by a row that is in the index."""

    id: RowId


class Result(BaseModel):
    """A row found."""

    id: str | int
    distance: int
    metadata: dict[str, Any]


class Found(BaseModel):
    """Rows found, nearest first."""

    results: list[Result]
    seconds: float


def make_app(
    index: Index,
    model: CodeModel,
    images: str | os.PathLike | None = None,
    *,
    token: str = "",
    is_public: bool = False,
    max_bytes: int = 20_000_000,
    max_pixels: int = 50_000_000,
    queue: int = 32,
    seconds: float = 30.0,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        index: what it searches.
        model: what encodes texts and pictures.
        images: folder of the collection's pictures; None: it serves none.
        token: needed for adding and deleting, and for all but the page where `is_public`; "": no row is changed.
        is_public: it listens beyond this machine.
        max_bytes, max_pixels: of an upload.
        queue: requests that may wait for the model.
        seconds: after which a request is given up.

    Raises:
        InputError: model and index do not belong together, or a public server has no token.
    """
    index.require_model(model.fingerprint, model.k_bits)
    if is_public and not token:
        raise InputError("--host: listening beyond this machine needs --token")
    root = None if images is None else Path(images).resolve()
    worker, counts = Worker(queue, seconds), Counter()
    about = "Search pictures and texts by the Hamming distance of their codes."
    app = FastAPI(title="math_hash", description=about, version="1", docs_url=None, redoc_url=None)
    app.add_middleware(Gate, token=token, is_public=is_public, max_bytes=max_bytes, seconds=seconds + 5, counts=counts)
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    refusals = {code: {"description": text} for code, text in _REFUSALS.items()}

    @app.exception_handler(InputError)
    async def on_input_error(request: Request, error: InputError):
        return problem(400, " ".join(str(error).split()))

    @app.exception_handler(UnicodeError)
    @app.exception_handler(OverflowError)
    async def on_odd_value(request: Request, error: Exception):
        return problem(400, "a value is no valid text or number")

    @app.exception_handler(Busy)
    async def on_busy(request: Request, error: Busy):
        return problem(503, "too many requests at once; try again in a second", {"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    @app.exception_handler(asyncio.TimeoutError)
    async def on_timeout(request: Request, error: Exception):
        return problem(504, f"no answer within {seconds:g} seconds")

    async def search(code_of: Callable[[], np.ndarray], wanted: Wanted) -> Found:
        start = time.perf_counter()

        def job() -> list[Result]:
            code = code_of()
            if wanted.radius is None:
                found = index.search(code, wanted.top_k, wanted.where)[0]
            else:
                found = index.search_radius(code, wanted.radius, wanted.where)[0]
            ids = found.ids[: wanted.top_k].tolist()
            rows = zip(ids, found.distances.tolist(), index.rows(ids), strict=False)
            return [Result(id=i, distance=d, metadata=row[1]) for i, d, row in rows if row]

        return Found(results=await worker.run(job), seconds=time.perf_counter() - start)

    def encode(kind: str, content: Any) -> np.ndarray:
        return model.encode_text([content]) if kind == "text" else model.encode_image([content])

    def id_of(name: str) -> Id:
        return int(name) if index.id_kind is int and re.fullmatch("-?[0-9]{1,18}", name) else name

    def row_of(name: str):
        row = index.rows([id_of(name)])[0]
        if row is None:
            raise HTTPException(404, "no row has that id")
        return row

    def from_parameters(
        top_k: Annotated[int, Query(ge=1, le=MOST_RESULTS)] = 20,
        radius: Annotated[int | None, Query(ge=0, le=4096)] = None,
        where: Annotated[str, Query(max_length=4000, description="a JSON object")] = "{}",
    ) -> Wanted:
        try:
            return Wanted(top_k=top_k, radius=radius, where=json.loads(where))
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, "where: expected a JSON object of names and values") from error

    def picture(content: bytes) -> Image.Image:
        try:
            with Image.open(io.BytesIO(content)) as header:
                pixels = header.width * header.height
        except Exception as error:  # Pillow raises many kinds on what is no picture
            raise HTTPException(415, "the upload is no picture that can be read") from error
        if pixels > max_pixels:
            raise HTTPException(413, f"the picture has {pixels} pixels; at most {max_pixels} are taken")
        try:
            return open_image(io.BytesIO(content))
        except InputError as error:
            raise HTTPException(415, "the upload is no picture that can be read") from error

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page():
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon():
        return Response(status_code=204)

    @app.post("/search/text", responses=refusals)
    async def search_text(query: TextQuery) -> Found:
        """Rows nearest to words."""
        return await search(lambda: encode("text", query.text), query)

    @app.post("/search/image", responses=refusals)
    async def search_image(
        file: Annotated[UploadFile, File()], wanted: Annotated[Wanted, Depends(from_parameters)]
    ) -> Found:
        """Rows nearest to an uploaded picture."""
        content = await file.read()
        return await search(lambda: encode("image", picture(content)), wanted)

    @app.post("/search/id", responses=refusals)
    async def search_id(query: IdQuery) -> Found:
        """Rows nearest to a row of the index."""
        return await search(lambda: row_of(query.id)[0][None], query)

    @app.post("/search/code", responses=refusals)
    async def search_code(query: CodeQuery) -> Found:
        """Rows nearest to a code."""
        code = np.frombuffer(bytes.fromhex(query.code), np.uint8)[None]
        return await search(lambda: code, query)

    @app.post("/rows", status_code=201, responses=refusals)
    async def add(
        id: Annotated[RowId, Form()],
        metadata: Annotated[str, Form(max_length=100_000, description="a JSON object")] = "{}",
        text: Annotated[str | None, Form(min_length=1, max_length=LONGEST_TEXT)] = None,
        file: Annotated[UploadFile | None, File()] = None,
    ) -> dict[str, int]:
        """Add a row: the code of a text or of a picture. The picture itself is not kept."""
        if (text is None) == (file is None):
            raise HTTPException(422, "expected a text or a file, one of them")
        try:
            about = json.loads(metadata)
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, "metadata: expected a JSON object") from error
        if not isinstance(about, dict):
            raise HTTPException(422, "metadata: expected a JSON object")
        content = await file.read() if file else None

        def job() -> int:
            code = encode("text", text) if file is None else encode("image", picture(content))
            if index.rows([id_of(id)])[0] is not None:
                raise HTTPException(409, "a row has that id already; delete it first")
            index.add([id_of(id)], code, [about])
            return len(index)

        return {"count": await worker.run(job)}

    @app.delete("/rows", responses=refusals)
    async def delete(id: Annotated[str, Query(min_length=1, max_length=LONGEST_ID)]) -> dict[str, int]:
        """Remove a row."""

        def job() -> int:
            if not index.delete([id_of(id)]):
                raise HTTPException(404, "no row has that id")
            return len(index)

        return {"count": await worker.run(job)}

    @app.get("/rows", responses=refusals)
    async def show_row(id: Annotated[str, Query(min_length=1, max_length=LONGEST_ID)]) -> dict[str, Any]:
        """A row's metadata and code."""
        code, about = await worker.run(lambda: row_of(id))
        return {"id": id_of(id), "code": code.tobytes().hex(), "metadata": about}

    @app.get("/image", response_class=Response, responses={**refusals, 200: {"content": {"image/jpeg": {}}}})
    async def show_image(
        id: Annotated[str, Query(min_length=1, max_length=LONGEST_ID)],
        size: Annotated[int, Query(ge=16, le=2048, description="longest side, in pixels")] = 320,
    ):
        """The picture of a row, made smaller."""
        _, about = await worker.run(lambda: row_of(id))
        content = root and await asyncio.to_thread(thumbnail, root, about, size)
        if not content:
            raise HTTPException(404, "that row has no picture that can be read here")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether it works, and what it holds."""
        rows = await worker.run(lambda: len(index))
        return {
            "status": "ok", "rows": rows, "k_bits": index.k_bits, "method": model.method, "pictures": root is not None,
            "token": is_public,
        }  # fmt: skip

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Counters in the text form of Prometheus."""
        lines = [
            f'math_hash_requests_total{{method="{key[1]}",status="{key[2]}"}} {value}'
            for key, value in sorted(counts.items(), key=str)
            if key != "seconds"
        ]
        lines.append(f"math_hash_request_seconds_total {counts['seconds']:.6f}")
        lines.append(f"math_hash_waiting {worker.waiting}")
        return "\n".join(lines) + "\n"

    return app


_POLICY = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' blob: data:"
_REFUSALS = {
    400: "a value cannot be used", 401: "no or a wrong token", 403: "not allowed here", 404: "no such row",
    409: "the id is taken", 413: "too large", 415: "no readable picture", 503: "too busy", 504: "took too long",
}  # fmt: skip


def serve(app: FastAPI, host: str, port: int) -> None:
    """Run the server until it is interrupted.

    Raises:
        InputError: the address cannot be listened on.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_keep_alive=10))
    try:
        server.run()
    except SystemExit as error:
        raise InputError(f"--host {host} --port {port}: cannot be listened on; choose another port") from error
