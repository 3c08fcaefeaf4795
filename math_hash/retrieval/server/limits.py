"""What a server accepts: whose requests, how large, how many at once, and for how long."""

import asyncio
import hmac
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import HTTPException
from fastapi.responses import JSONResponse, Response
from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from math_hash.data.images import open_image
from math_hash.errors import InputError

_LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "::1"}
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_Result = TypeVar("_Result")


class Busy(Exception):
    """The queue is full."""


class Worker:
    """One thread for the model and the index, behind a queue of bounded length.

    Args:
        queue: the largest number of jobs that wait or run at the same time.
        seconds: time limit of a job, waiting included.

    Attributes:
        waiting: jobs that wait or run now.
    """

    def __init__(self, queue: int, seconds: float):
        self.queue, self.seconds, self.waiting = queue, seconds, 0
        self._pool, self._lock = ThreadPoolExecutor(1), threading.Condition()

    async def run(self, job: Callable[[], _Result]) -> _Result:
        """The job's result. Where nobody waits for it any more, a job that has not begun is dropped; one that runs
        does so to its end, and counts as waiting until then.

        Raises:
            Busy: the queue is full.
            TimeoutError: it took too long.
        """
        with self._lock:
            if self.waiting >= self.queue:
                raise Busy
            self.waiting += 1
        future = self._pool.submit(job)
        future.add_done_callback(self._ended)
        return await asyncio.wait_for(asyncio.wrap_future(future), self.seconds)

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self.waiting -= 1
            self._lock.notify_all()

    def close(self, seconds: float) -> bool:
        """Drop what has not begun, and wait for what runs. False: it still runs after `seconds`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            return self._lock.wait_for(lambda: not self.waiting, seconds)


@dataclass
class Traffic:
    """What is counted since the server started.

    requests: by method (one that HTTP does not define counts as "other") and status of the answer.
    seconds: time spent on answering, summed over all requests.
    rows: of the index, at the last look.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    rows: int = 0


class Gate:
    """Middleware that checks each request before its body is read, and counts it.

    It refuses requests of other hosts, without the token or with too large a body, and ends those that take too long.
    """

    def __init__(self, app: ASGIApp, token: str, is_public: bool, max_bytes: int, seconds: float, traffic: Traffic):
        self.app, self.token, self.is_public = app, token, is_public
        self.max_bytes, self.seconds, self.traffic = max_bytes, seconds, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, size = time.perf_counter(), 0, 0

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def bounded_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                raise HTTPException(413, f"the request has more than {self.max_bytes} bytes")
            return message

        try:
            if refusal := self._refusal(scope):
                await refusal(scope, receive, counted_send)
            else:
                await self._answer(scope, bounded_receive, counted_send)
        except (TimeoutError, asyncio.TimeoutError):
            if not status:
                await error_response(504, f"no answer within {self.seconds:g} seconds")(scope, receive, counted_send)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.traffic.requests[method, str(status or 499)] += 1
            self.traffic.seconds += time.perf_counter() - start

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, unless its client leaves: then what it asked for is dropped.

        Raises:
            TimeoutError: it took too long.
        """
        whole = asyncio.Event()

        async def noted_receive() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                whole.set()
            return message

        async def client_leaves() -> None:
            await whole.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        answer = asyncio.ensure_future(self.app(scope, noted_receive, send))
        leaving = asyncio.ensure_future(client_leaves())
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):  # nothing but the header is read of these
            whole.set()
        try:
            done, _ = await asyncio.wait({answer, leaving}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError
            if answer in done:
                answer.result()
        finally:
            answer.cancel()
            leaving.cancel()
            await asyncio.gather(answer, leaving, return_exceptions=True)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let in."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not self.is_public and name.lower() not in _LOOPBACK:  # another site's page that points its name here
            return error_response(403, "this server answers on this machine only")
        if not headers.get(b"content-length", b"0").isdigit():
            return error_response(400, "Content-Length is no number")
        if int(headers.get(b"content-length", b"0")) > self.max_bytes:
            return error_response(413, f"the request has more than {self.max_bytes} bytes")
        writes = scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope["path"].startswith("/rows")
        open_path = scope["path"] in ("/", "/health", "/favicon.ico") or scope["path"].startswith("/static/")
        if writes and not _is_same_origin(headers):
            return error_response(403, "rows are changed by this server's own pages only")
        if writes and not self.token:
            return error_response(403, "this server is for reading; start it with --token to add and delete")
        if (writes or (self.is_public and not open_path)) and not self._has_token(headers):
            return error_response(401, "expected the header 'Authorization: Bearer TOKEN'")
        return None

    def _has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        return hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self.token.encode())


def _is_same_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request comes from this server's own page, or from no page at all."""
    origin = headers.get(b"origin")
    return origin is None or origin.partition(b"://")[2] == headers.get(b"host")


def read_upload(content: bytes, max_pixels: int) -> Image.Image:
    """Decode an uploaded picture: RGB, upright. Its size is checked before its pixels are decoded.

    Raises:
        HTTPException: 413 where it has more than `max_pixels` pixels, 415 where it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content)) as header:
            pixels = header.width * header.height
    except Exception as error:  # Pillow raises many kinds of errors on files that are not pictures
        raise HTTPException(415, "the upload is no picture that can be read") from error
    if pixels > max_pixels:
        raise HTTPException(413, f"the picture has {pixels} pixels; at most {max_pixels} are taken")
    try:
        return open_image(io.BytesIO(content))
    except InputError as error:
        raise HTTPException(415, "the upload is no picture that can be read") from error


def error_response(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer that says why a request failed, in the form of FastAPI's own errors."""
    return JSONResponse({"detail": reason}, status, dict(headers or {}))
