"""What a server lets in: whose requests, how large, how many at once, and for how long."""

import asyncio
import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse, Response

_LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "::1", "testserver"}


class Busy(Exception):
    """The queue is full."""


class Worker:
    """One thread for the model and the index, behind a queue of bounded length."""

    def __init__(self, queue: int, seconds: float):
        self.queue, self.seconds, self.waiting = queue, seconds, 0
        self._pool, self._lock = ThreadPoolExecutor(1), threading.Lock()

    async def run(self, job: Callable[[], Any]) -> Any:
        """The job's result.

        Raises:
            Busy: the queue is full.
            TimeoutError: it took too long.
        """
        with self._lock:
            if self.waiting >= self.queue:
                raise Busy
            self.waiting += 1

        def task():
            try:
                return job()
            finally:
                with self._lock:
                    self.waiting -= 1

        future = asyncio.get_running_loop().run_in_executor(self._pool, task)
        return await asyncio.wait_for(asyncio.shield(future), self.seconds)


class Gate:
    """Before any request is read: whose it is, how large it may be, how long it may take; and what is counted."""

    def __init__(self, app, token: str, is_public: bool, max_bytes: int, seconds: float, counts: Counter):
        self.app, self.token, self.is_public = app, token, is_public
        self.max_bytes, self.seconds, self.counts = max_bytes, seconds, counts

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, size = time.perf_counter(), [0], 0

        async def counted_send(message):
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        async def bounded_receive():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                raise HTTPException(413, f"the request has more than {self.max_bytes} bytes")
            return message

        refused = self._refusal(scope)
        try:
            if refused:
                await refused(scope, receive, counted_send)
            else:
                await asyncio.wait_for(self.app(scope, bounded_receive, counted_send), self.seconds)
        except (TimeoutError, asyncio.TimeoutError):
            if not status[0]:
                await problem(504, f"no answer within {self.seconds:g} seconds")(scope, receive, counted_send)
        finally:
            self.counts["requests", scope["method"], str(status[0] or 500)] += 1
            self.counts["seconds"] += time.perf_counter() - start

    def _refusal(self, scope) -> Response | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not self.is_public and name.lower() not in _LOOPBACK:  # another site's page that points its name here
            return problem(403, "this server answers on this machine only")
        if not headers.get(b"content-length", b"0").isdigit():
            return problem(400, "Content-Length is no number")
        if int(headers.get(b"content-length", b"0")) > self.max_bytes:
            return problem(413, f"the request has more than {self.max_bytes} bytes")
        writes = scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope["path"].startswith("/rows")
        open_path = scope["path"] in ("/", "/health") or scope["path"] == "/favicon.ico"
        if writes and not self.token:
            return problem(403, "this server is for reading; start it with --token to add and delete")
        if (writes or (self.is_public and not open_path)) and not self._is_known(headers, scope):
            return problem(401, "expected the header 'Authorization: Bearer TOKEN'")
        return None

    def _is_known(self, headers: Mapping[bytes, bytes], scope) -> bool:
        return hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self.token.encode())


def problem(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer that says why."""
    return JSONResponse({"detail": reason}, status, dict(headers or {}))
