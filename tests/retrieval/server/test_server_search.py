"""The search server: right answers under load, and bad requests that end in a reason."""

import io
import json
import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from math_hash.data import read_dataset
from math_hash.errors import InputError
from math_hash.retrieval import open_index
from math_hash.retrieval.encode import encode_collection

uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.retrieval.server.app import make_app  # noqa: E402

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def index(model, tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    codes = encode_collection(model, tiny_dataset, folder / "codes", num_workers=0, progress=False)
    with open_index(folder / "index", 16, model.fingerprint) as opened:
        ids, metadata = zip(*codes.rows(), strict=True)
        opened.add(ids, codes.codes, metadata)
        yield opened


@pytest.fixture(scope="module")
def start():
    """A function that runs an application on loopback: its client."""
    stops = []

    def run_app(app):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        stops.append((server, thread, client))
        return client

    yield run_app
    for server, thread, client in stops:
        client.close()
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def client(index, model, tiny_dataset, start):
    return start(make_app(index, model, tiny_dataset, token="secret", max_bytes=300_000, max_pixels=100_000))


def png(colour="red", size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "png")
    return buffer.getvalue()


def test_searches_answer_as_the_index_does(client, index, model, tiny_dataset):
    picture = (tiny_dataset / "5.png").read_bytes()
    by_text = client.post("/search/text", json={"text": "red", "top_k": 7}).json()["results"]
    wanted = index.search(model.encode_text(["red"]), 7)[0]
    assert [result["id"] for result in by_text] == wanted.ids.tolist()
    assert [result["distance"] for result in by_text] == wanted.distances.tolist()
    upload = client.post("/search/image?top_k=1&radius=0", files={"file": picture}).json()["results"]
    by_id = client.post("/search/id", json={"id": "5.png", "top_k": 1, "radius": 0}).json()["results"]
    code = index.rows(["5.png"])[0][0]
    by_code = client.post("/search/code", json={"code": code.tobytes().hex(), "top_k": 1, "radius": 0}).json()[
        "results"
    ]
    assert upload == by_id == by_code
    assert by_id[0]["distance"] == 0
    filtered = client.post("/search/text", json={"text": "red", "top_k": 60, "where": {"label": "blue"}}).json()
    data = read_dataset(tiny_dataset)
    assert sorted(r["id"] for r in filtered["results"]) == sorted(np.array(data.images)[data.labels[:, 2] > 0])
    shown = client.get("/image", params={"id": "5.png", "size": 20})
    assert Image.open(io.BytesIO(shown.content)).size[1] == 20
    assert client.get("/health").json() == {
        "status": "ok", "rows": 60, "k_bits": 16, "method": "MATH", "pictures": True, "token": False,
    }  # fmt: skip
    assert 'math_hash_requests_total{method="POST",status="200"}' in client.get("/metrics").text
    assert "<title>" in client.get("/").text
    assert client.get("/openapi.json").json()["paths"]["/search/text"]


def test_rows_are_added_and_deleted_with_the_token_only(client, index):
    form = {"id": "new/1", "metadata": json.dumps({"label": ["mine"]})}
    assert client.post("/rows", data={**form, "text": "green"}).status_code == 401
    assert (
        client.post("/rows", data={**form, "text": "green"}, headers={"Authorization": "Bearer x"}).status_code == 401
    )
    assert client.post("/rows", data=form, files={"file": png("green")}, headers=TOKEN).json() == {"count": 61}
    assert client.post("/rows", data=form, files={"file": png("green")}, headers=TOKEN).status_code == 409
    assert client.get("/rows", params={"id": "new/1"}).json()["metadata"] == {"label": ["mine"]}
    assert client.delete("/rows", params={"id": "new/1"}).status_code == 401
    assert client.delete("/rows", params={"id": "new/1"}, headers=TOKEN).json() == {"count": 60}
    assert client.delete("/rows", params={"id": "new/1"}, headers=TOKEN).status_code == 404


def bomb():
    """A picture of 400 million white pixels in few bytes."""
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "png")
    Image.MAX_IMAGE_PIXELS = before
    return buffer.getvalue()


def test_bad_requests_end_in_a_reason_and_the_server_goes_on(client):
    def big():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield b"x" * 1_000_000

    requests = {
        "decompression bomb": lambda: client.post("/search/image", files={"file": bomb()}),
        "large picture": lambda: client.post("/search/image", files={"file": png(size=(400, 400))}),
        "no picture": lambda: client.post("/search/image", files={"file": b"GIF89a nothing"}),
        "half a picture": lambda: client.post("/search/image", files={"file": png()[:60]}),
        "upload beyond the limit": lambda: client.post("/search/image", files={"file": b"x" * 400_000}),
        "id that leads out": lambda: client.get("/image", params={"id": "../../etc/passwd"}),
        "row that leads out": lambda: client.post("/search/id", json={"id": "../../etc/passwd"}),
        "long text": lambda: client.post("/search/text", json={"text": "x" * 200_000}),
        "text of 1 MB": lambda: client.post("/search/text", json={"text": "x" * 1_000_000}),
        "no UTF-8": lambda: client.post("/search/text", content=b'{"text": "\xff\xfe"}'),
        "no JSON": lambda: client.post("/search/text", content=b"{"),
        "half a character": lambda: client.post(
            "/search/text", content=b'{"text": "\\ud800", "where": {"a": "\\ud800"}}'
        ),
        "short code": lambda: client.post("/search/code", json={"code": "00"}),
        "long code": lambda: client.post("/search/code", json={"code": "00" * 9}),
        "no code": lambda: client.post("/search/code", json={"code": "zz"}),
        "too many": lambda: client.post("/search/text", json={"text": "x", "top_k": 10**9}),
        "negative radius": lambda: client.post("/search/text", json={"text": "x", "radius": -1}),
        "unknown field": lambda: client.post("/search/text", json={"text": "x", "topk": 1}),
        "odd filter": lambda: client.post("/search/text", json={"text": "x", "where": {'a"b': 1}}),
        "filter that is no object": lambda: client.post("/search/image?where=3", files={"file": png()}),
        "both": lambda: client.post("/rows", data={"id": "a", "text": "b"}, files={"file": png()}, headers=TOKEN),
        "metadata": lambda: client.post("/rows", data={"id": "a", "text": "b", "metadata": "[]"}, headers=TOKEN),
        "another host": lambda: client.get("/health", headers={"Host": "evil.example"}),
        "odd length": lambda: client.post("/search/text", content=b"x", headers={"Content-Length": "-1"}),
    }
    for name, send in requests.items():
        try:
            answer = send()
        except (httpx.RemoteProtocolError, httpx.LocalProtocolError, httpx.WriteError):
            assert name == "odd length"
            continue
        assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text)
        assert answer.text, name
    for _ in range(2):  # a stream of 1 GB without a length is cut off
        try:
            multipart = {"Content-Type": "multipart/form-data; boundary=x"}
            assert client.post("/search/image", content=big(), headers=multipart).status_code == 413
        except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
            pass
    assert client.post("/search/text", json={"text": "red"}).status_code == 200


def test_pictures_come_from_the_root_only(index, model, tiny_dataset, tmp_path, start):
    root = tmp_path / "root"
    shutil.copytree(tiny_dataset, root)
    (tmp_path / "secret.png").write_bytes(png())
    os.symlink(tmp_path / "secret.png", root / "link.png")
    with open_index(tmp_path / "i", 16, model.fingerprint) as other:
        names = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "0.png", "", "x\0y", "manifest.json"]
        metadata = [{"image": name} for name in names]
        other.add(range(len(names)), np.zeros((len(names), 2), np.uint8), metadata)
        client = start(make_app(other, model, root))
        for place, name in enumerate(names):
            status = client.get("/image", params={"id": str(place)}).status_code
            assert status == (200 if name == "0.png" else 404), name
        assert client.post("/rows", data={"id": "a", "text": "b"}, headers=TOKEN).status_code == 403


def test_beyond_this_machine_all_but_the_page_needs_the_token(index, model, tiny_dataset, start):
    with pytest.raises(InputError, match="needs --token"):
        make_app(index, model, is_public=True)
    client = start(make_app(index, model, tiny_dataset, is_public=True, token="secret"))
    assert client.get("/").status_code == client.get("/health").status_code == 200
    for path in ("/image?id=0.png", "/rows?id=0.png", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=TOKEN).status_code == 200
    assert client.post("/search/text", json={"text": "x"}).status_code == 401


def test_overload_is_refused_at_once_and_slow_work_given_up(index, model, start, monkeypatch):
    release = threading.Event()

    def slow(texts):
        release.wait(20)
        return np.zeros((1, 2), np.uint8)

    monkeypatch.setattr(model, "encode_text", slow)
    client = start(make_app(index, model, queue=2, seconds=1))
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(client.post, "/search/text", json={"text": "x"}) for _ in range(6)]
        statuses = sorted(answer.result().status_code for answer in sent)
    assert statuses == [503, 503, 503, 503, 504, 504]
    assert client.get("/metrics").status_code == 200
    release.set()
    time.sleep(0.3)
    assert client.post("/search/text", json={"text": "x"}).status_code == 200


def test_eight_clients_get_right_answers(client, index, model):
    words = ["red", "green", "blue", "red and green", "nothing", "blue and red", "a", "b"]
    wanted = {
        word: found.distances.tolist()
        for word, found in zip(words, index.search(model.encode_text(words), 10), strict=True)
    }

    def ask(number):
        word = words[number % 8]
        start = time.perf_counter()
        answer = client.post("/search/text", json={"text": word, "top_k": 10})
        assert answer.status_code == 200
        assert [result["distance"] for result in answer.json()["results"]] == wanted[word]
        return time.perf_counter() - start

    with ThreadPoolExecutor(8) as pool:
        seconds = list(pool.map(ask, range(200)))
    print(f"95th percentile of 200 searches by 8 clients: {1000 * np.percentile(seconds, 95):.0f} ms")


def test_no_request_of_the_described_kind_ends_in_500(index, model, tiny_dataset):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    app = make_app(index, model, tiny_dataset, token="secret")
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried = 0
    for operation in schema.get_all_operations():

        @settings(max_examples=25, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
        @given(case=operation.ok().as_strategy())
        def check(case):
            nonlocal tried
            tried += 1
            answer = case.call(headers=TOKEN)
            assert answer.status_code < 500, (case, answer.text)

        check()
    assert tried > 100


def test_the_page_finds_pictures_in_a_browser(client):
    """In headless Chromium: type, see results, click one, move the sliders, by keyboard alone."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(bypass_csp=True)  # for the test's own expressions
        errors, foreign = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url) if "127.0.0.1" not in request.url else None)
        page.goto(str(client.base_url))
        page.keyboard.type("red")
        page.keyboard.press("Enter")
        page.wait_for_selector("#results li")
        assert page.locator("#results li").count() == 24
        assert page.locator("#results img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.locator("#results button").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#query').textContent.startsWith('like ')")
        page.wait_for_function("document.querySelector('#results b').textContent === 'distance 0'")
        page.locator("#top").focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("document.querySelectorAll('#results li').length === 21")
        page.locator("#radius").fill("0")
        page.wait_for_function(
            "[...document.querySelectorAll('#results b')].every(b => b.textContent === 'distance 0')"
        )
        page.set_input_files("#file", {"name": "own.png", "mimeType": "image/png", "buffer": png()})
        page.wait_for_function("document.querySelector('#query').textContent === 'like own.png'")
        browser.close()
        assert not errors
        assert not [url for url in foreign if not url.startswith("blob:")]
