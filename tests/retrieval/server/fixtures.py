"""Fixtures of the search server's tests: an index of the tiny dataset, and servers on loopback."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

TOKEN = {"Authorization": "Bearer secret"}


def png(color: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def served_index(model, tiny_dataset, tmp_path_factory):
    """The 60 pictures of the tiny dataset, under their file names."""
    from math_hash.retrieval import open_index
    from math_hash.retrieval.encode import encode_collection

    folder = tmp_path_factory.mktemp("served")
    codes = encode_collection(model, tiny_dataset, folder / "codes", num_workers=0, progress=False)
    with open_index(folder / "index", 16, model.fingerprint) as opened:
        ids, metadata = zip(*codes.rows(), strict=True)
        opened.add(ids, codes.codes, metadata)
        yield opened


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[[Any], Any]]:
    """A function that runs an application on loopback and returns its client."""
    httpx, uvicorn = pytest.importorskip("httpx"), pytest.importorskip("uvicorn")
    running = []

    def start(app, **options):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", **options))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        running.append((server, thread, client))
        return client

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def client(served_index, model, tiny_dataset, start_server):
    """The client of a server with small limits, whose token is `TOKEN`."""
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from math_hash.retrieval.server.app import make_app

    app = make_app(served_index, model, tiny_dataset, token="secret", max_bytes=300_000, max_pixels=100_000)
    return start_server(app)
