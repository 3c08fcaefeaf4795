"""Bad, large and too many requests are refused with a reason, and the server keeps running."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
import pytest
from PIL import Image
from retrieval.server.fixtures import TOKEN, png

from math_hash.errors import InputError

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.models.code_model import Encoded
from math_hash.retrieval.server.app import make_app

pytestmark = pytest.mark.server


def bomb():
    """A picture of 400 million white pixels in a few bytes."""
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "png")
    Image.MAX_IMAGE_PIXELS = before
    return buffer.getvalue()


HALF_A_CHARACTER = b'{"text": "\\ud800", "where": {"a": "\\ud800"}}'
BAD_REQUESTS = {
    "decompression bomb": lambda client: client.post("/search/image", files={"file": bomb()}),
    "large picture": lambda client: client.post("/search/image", files={"file": png(size=(400, 400))}),
    "no picture": lambda client: client.post("/search/image", files={"file": b"GIF89a nothing"}),
    "half a picture": lambda client: client.post("/search/image", files={"file": png()[:60]}),
    "upload beyond the limit": lambda client: client.post("/search/image", files={"file": b"x" * 400_000}),
    "id that leads out": lambda client: client.get("/image", params={"id": "../../etc/passwd"}),
    "row that leads out": lambda client: client.post("/search/id", json={"id": "../../etc/passwd"}),
    "long text": lambda client: client.post("/search/text", json={"text": "x" * 200_000}),
    "text of 1 MB": lambda client: client.post("/search/text", json={"text": "x" * 1_000_000}),
    "no UTF-8": lambda client: client.post("/search/text", content=b'{"text": "\xff\xfe"}'),
    "no JSON": lambda client: client.post("/search/text", content=b"{"),
    "half a character": lambda client: client.post("/search/text", content=HALF_A_CHARACTER),
    "short code": lambda client: client.post("/search/code", json={"code": "00"}),
    "long code": lambda client: client.post("/search/code", json={"code": "00" * 9}),
    "no code": lambda client: client.post("/search/code", json={"code": "zz"}),
    "too many results": lambda client: client.post("/search/text", json={"text": "x", "top_k": 10**9}),
    "negative radius": lambda client: client.post("/search/text", json={"text": "x", "radius": -1}),
    "unknown field": lambda client: client.post("/search/text", json={"text": "x", "topk": 1}),
    "odd filter": lambda client: client.post("/search/text", json={"text": "x", "where": {'a"b': 1}}),
    "filter that is no object": lambda client: client.post("/search/image?where=3", files={"file": png()}),
    "text and file": lambda client: client.post(
        "/rows", data={"id": "a", "text": "b"}, files={"file": png()}, headers=TOKEN
    ),
    "metadata that is no object": lambda client: client.post(
        "/rows", data={"id": "a", "text": "b", "metadata": "[]"}, headers=TOKEN
    ),
    "another host": lambda client: client.get("/health", headers={"Host": "evil.example"}),
    "odd length": lambda client: client.post("/search/text", content=b"x", headers={"Content-Length": "-1"}),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests_are_refused_with_a_reason_and_the_server_keeps_running(client, name):
    try:
        answer = BAD_REQUESTS[name](client)
    except (httpx.RemoteProtocolError, httpx.LocalProtocolError, httpx.WriteError):
        assert name == "odd length"
    else:
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
        assert answer.text
    assert client.post("/search/text", json={"text": "red"}).status_code == 200


def test_an_upload_of_1_gb_without_a_length_is_cut_off(client):
    def big():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield b"x" * 1_000_000

    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    for _ in range(2):
        with suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):  # or the connection is closed
            assert client.post("/search/image", content=big(), headers=multipart).status_code == 413
    assert client.post("/search/text", json={"text": "red"}).status_code == 200


def test_beyond_this_machine_all_but_the_page_needs_the_token(served_index, model, tiny_dataset, start_server):
    with pytest.raises(InputError, match="needs `token`"):
        make_app(served_index, model, is_public=True)
    client = start_server(make_app(served_index, model, tiny_dataset, is_public=True, token="secret"))
    assert client.get("/").status_code == client.get("/health").status_code == 200
    for path in ("/image?id=0.png", "/rows?id=0.png", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=TOKEN).status_code == 200
    assert client.post("/search/text", json={"text": "x"}).status_code == 401


def test_overload_is_refused_at_once_and_slow_work_times_out(served_index, model, start_server, monkeypatch):
    release = threading.Event()

    def slow(modality, item):
        release.wait(20)
        return Encoded(np.zeros(16, np.float32))

    monkeypatch.setattr(model, "encode_query", slow)
    client = start_server(make_app(served_index, model, queue=2, seconds=1))
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(client.post, "/search/text", json={"text": "x"}) for _ in range(6)]
        statuses = sorted(answer.result().status_code for answer in sent)
    assert statuses == [503, 503, 503, 503, 504, 504]
    assert client.get("/metrics").status_code == 200
    release.set()
    time.sleep(0.3)
    assert client.post("/search/text", json={"text": "x"}).status_code == 200
