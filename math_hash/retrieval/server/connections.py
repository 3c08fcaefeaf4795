"""Connections of a server: how many, and how long one may keep the server waiting."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from math_hash.errors import InputError

HEADER_SECONDS = 10.0  # for a whole header, and for a client that does not take what it asked for
SPARE_FILES = 64  # open files that are not connections: the index, pictures, libraries


def most_connections(wanted: int = 1000) -> int:
    """How many connections the process may hold, after raising its limit of open files as far as it may.

    Raises:
        InputError: the limit of open files leaves none.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft <= SPARE_FILES:
        raise InputError(f"the process may open {soft} files; a server needs over {SPARE_FILES} (see `ulimit -n`)")
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - SPARE_FILES)


class BoundedConnection(H11Protocol):
    """A connection that is closed when its client sends no whole header in time, or does not take its answer.

    Where there are too many, the oldest one without a request gives way to the newest: clients that open connections
    and say nothing keep nobody out.
    """

    limit = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._check = self.loop.call_later(HEADER_SECONDS, self._close_if_late)
        if len(self.connections) > self.limit:
            silent = [other for other in self.connections if isinstance(other, BoundedConnection) and other._is_silent]
            oldest = min(silent, key=lambda other: other._since, default=self)
            oldest.transport.abort()
            self.connections.discard(oldest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def _is_silent(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_late(self) -> None:
        """Close the connection where it waited too long for a header, or for the client to take what was sent.

        A request that is being answered has time limits of its own.
        """
        waits = self._is_silent or self.transport.is_closing()
        late = self._since + HEADER_SECONDS - self.loop.time()
        if waits and late <= 0:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(max(late, 1.0), self._close_if_late)


def bounded_connections(limit: int) -> type[Any]:
    """The protocol for uvicorn's `http`, with at most `limit` connections at the same time."""
    return type("BoundedConnection", (BoundedConnection,), {"limit": limit})
