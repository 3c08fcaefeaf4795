"""Connections that say nothing, clients that leave, other sites' pages, and the end of a server."""

import json
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image
from retrieval.server.fixtures import TOKEN

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from fastapi import FastAPI

from math_hash.errors import InputError
from math_hash.models.code_model import Encoded
from math_hash.retrieval.server import connections
from math_hash.retrieval.server.app import make_app, serve
from math_hash.retrieval.thumbnail import thumbnail

pytestmark = pytest.mark.server


def connect(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=5)


def request_of(text):
    body = json.dumps({"text": text}).encode()
    return (
        b"POST /search/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


@pytest.fixture
def busy_client(served_index, model, start_server, monkeypatch):
    """A client, the texts that the model was asked for, and an event that ends the first one."""
    asked, release = [], threading.Event()

    def slow(modality, item):
        asked.append(item)
        release.wait(20)
        return Encoded(np.zeros(16, np.float32))

    monkeypatch.setattr(model, "encode_query", slow)
    yield start_server(make_app(served_index, model, token="secret")), asked, release
    release.set()


def test_silent_connections_keep_nobody_out_and_end(served_index, model, start_server, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    client = start_server(make_app(served_index, model), http=connections.bounded_connections(8))
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(client)) for _ in range(40)]
        for one in silent:
            with suppress(OSError):  # the oldest ones are closed already
                one.sendall(b"GET / HT")
        assert [client.get("/health").status_code for _ in range(3)] == [200] * 3
        for one in silent:
            with suppress(ConnectionResetError):
                assert one.recv(1000) == b""
    assert client.get("/health").status_code == 200


def test_the_oldest_silent_connections_give_way_before_their_time_is_over(served_index, model, start_server):
    client = start_server(make_app(served_index, model), http=connections.bounded_connections(8))
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(client)) for _ in range(12)]
        assert client.get("/health").status_code == 200
        for one in silent[:4]:
            with suppress(ConnectionResetError):
                assert one.recv(1000) == b""
        silent[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1000)


def test_a_connection_that_is_idle_after_its_answer_is_closed(served_index, model, start_server, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    client = start_server(make_app(served_index, model), http=connections.bounded_connections(8), timeout_keep_alive=60)
    with connect(client) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while received := idle.recv(10_000):  # the answer, then, within the time limit of the socket, the end
            assert received


def test_the_limit_of_connections_is_below_the_limit_of_open_files():
    pytest.importorskip("resource")
    code = """
import resource
from math_hash.retrieval.server import connections
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(before[1], 600)))
print(connections.most_connections(500), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
print(connections.most_connections(500))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"500 {500 + connections.SPARE_FILES}\n{256 - connections.SPARE_FILES}\n"


@pytest.mark.parametrize("port", ["taken", 65536])
def test_a_port_that_cannot_be_had_is_one_line(port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1] if port == "taken" else port
        with ThreadPoolExecutor(1) as pool:  # in the main thread it takes the signals
            ended = pool.submit(serve, FastAPI(), "127.0.0.1", port)
            with pytest.raises(InputError, match=f"`port` {port}: cannot be listened on; choose another port"):
                ended.result()


def test_what_a_client_asked_for_before_it_left_is_not_done(busy_client):
    client, asked, release = busy_client
    first = threading.Thread(target=client.post, args=("/search/text",), kwargs={"json": {"text": "first"}})
    first.start()
    while not asked:
        time.sleep(0.01)
    for place in range(10):
        with connect(client) as leaving:
            leaving.sendall(request_of(f"left {place}"))
            time.sleep(0.02)
    deadline = time.monotonic() + 5
    while client.get("/health").json()["waiting"] > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    release.set()
    first.join()
    assert client.post("/search/text", json={"text": "last"}).status_code == 200
    assert asked == ["first", "last"]


def test_health_does_not_wait_behind_searches(busy_client):
    client, asked, release = busy_client
    rows = client.get("/health").json()["rows"]
    search = threading.Thread(target=client.post, args=("/search/text",), kwargs={"json": {"text": "x"}})
    search.start()
    while not asked:
        time.sleep(0.01)
    start = time.monotonic()
    answer = client.get("/health").json()
    assert time.monotonic() - start < 2
    assert (answer["waiting"], answer["rows"]) == (1, rows)
    release.set()
    search.join()


def test_methods_that_http_does_not_define_are_counted_together(served_index, model, start_server):
    client = start_server(make_app(served_index, model))
    for method in ("BREW", "a" * 50):
        client.request(method, "/")
    counts = client.get("/metrics").text
    for _ in range(50):  # an answer is counted once it is sent
        if 'method="other",status="405"} 2' in counts:
            break
        time.sleep(0.02)
        counts = client.get("/metrics").text
    assert 'method="other",status="405"} 2' in counts
    assert "BREW" not in counts


def test_pages_of_other_sites_change_no_rows(served_index, model, start_server):
    client = start_server(make_app(served_index, model, token="secret"))
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    for origin, status in ((None, 201), (own, 409), ("http://evil.example", 403), ("null", 403)):
        headers = TOKEN if origin is None else {**TOKEN, "Origin": origin}
        assert client.post("/rows", data={"id": "new", "text": "x"}, headers=headers).status_code == status
    assert client.delete("/rows?id=new", headers={**TOKEN, "Origin": "http://evil.example"}).status_code == 403
    assert client.delete("/rows?id=new", headers=TOKEN).status_code == 200
    assert client.get("/health", headers={"Host": "testserver"}).status_code == 403


def test_metadata_reach_no_tar_outside_the_folder(tmp_path):
    inside = tmp_path / "pictures"
    inside.mkdir()
    for folder in (tmp_path, inside):
        Image.new("RGB", (8, 8)).save(folder / "a.tar", "png")  # bytes at an offset are all that a member is
    size = (inside / "a.tar").stat().st_size
    assert thumbnail(inside, {"image": "a.tar/x.png", "member": [0, size]}, 32)
    for name in ("../a.tar/../pictures/x.png", "../a.tar/x.png", f"{tmp_path}/a.tar/../pictures/x.png"):
        assert thumbnail(inside, {"image": name, "member": [0, size]}, 32) is None
    for name in ("circle.png", "circle.tar"):
        (inside / name).symlink_to(inside / name)
        for member in (None, [0, size]):
            assert thumbnail(inside, {"image": f"{name}/x.png" if member else name, "member": member}, 32) is None
    for member in ([-1, size], [0, "x"], [0], 3, [0, -1], [0, 10**15], {"a": 1}):
        assert thumbnail(inside, {"image": "a.tar/x.png", "member": member}, 32) is None


def test_a_server_that_is_told_to_stop_ends_within_five_seconds():
    script = """
        import time
        from types import SimpleNamespace
        from fastapi import FastAPI
        from math_hash.retrieval.server.limits import Worker
        from math_hash.retrieval.server.serve import serve

        app, worker = FastAPI(), Worker(4, 60)
        app.state.server = SimpleNamespace(worker=worker)

        @app.get("/")
        async def work():
            await worker.run(lambda: print("working", flush=True) or time.sleep(60))

        print("started", flush=True)
        serve(app, "127.0.0.1", PORT)
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    code = textwrap.dedent(script).replace("PORT", str(port))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"started\n"
        for _ in range(100):
            with suppress(ConnectionRefusedError):
                request = socket.create_connection(("127.0.0.1", port))
                break
            time.sleep(0.1)
        with request:
            request.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert server.stdout.readline() == b"working\n"
            server.send_signal(signal.SIGTERM)
            assert server.wait(5) == 0
        assert b"was left" in server.stderr.read()
