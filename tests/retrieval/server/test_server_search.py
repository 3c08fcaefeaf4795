"""Searches over HTTP return the same as the index, also under load."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from math_hash.data import read_dataset
from math_hash.hamming.codes import unpack
from math_hash.retrieval.searcher import Searcher

pytestmark = pytest.mark.server


def test_searches_answer_as_the_index_does(client, served_index, model, tiny_dataset):
    picture = (tiny_dataset / "5.png").read_bytes()
    by_text = client.post("/search/text", json={"text": "red", "top_k": 7}).json()["results"]
    neighbors = served_index.search(model.encode_text(["red"]), 60)[0]
    signs = 2.0 * unpack(np.stack([code for code, _ in served_index.rows(neighbors.ids)]), 16) - 1
    order = np.argsort(-(signs @ model.encode_text(["red"], output="continuous")[0]), kind="stable")[:7]
    assert [result["id"] for result in by_text] == neighbors.ids[order].tolist()
    assert [result["distance"] for result in by_text] == neighbors.distances[order].tolist()
    upload = client.post("/search/image?top_k=1&radius=0", files={"file": picture}).json()["results"]
    by_id = client.post("/search/id", json={"id": "5.png", "top_k": 1, "radius": 0}).json()["results"]
    code = served_index.rows(["5.png"])[0][0].tobytes().hex()
    by_code = client.post("/search/code", json={"code": code, "top_k": 1, "radius": 0}).json()["results"]
    assert upload == by_id == by_code
    assert by_id[0]["distance"] == 0
    filtered = client.post("/search/text", json={"text": "red", "top_k": 60, "where": {"label": "blue"}}).json()
    data = read_dataset(tiny_dataset)
    assert sorted(r["id"] for r in filtered["results"]) == sorted(np.array(data.images)[data.labels[:, 2] > 0])


def test_the_other_routes_answer(client):
    thumbnail = client.get("/image", params={"id": "5.png", "size": 20})
    assert Image.open(io.BytesIO(thumbnail.content)).size[1] == 20
    assert client.get("/health").json() == {
        "status": "ok", "rows": 60, "waiting": 0, "k_bits": 16, "method": "MATH", "pictures": True, "token": False,
    }  # fmt: skip
    assert client.post("/search/text", json={"text": "red"}).status_code == 200
    assert 'math_hash_requests_total{method="POST",status="200"}' in client.get("/metrics").text
    assert "<title>" in client.get("/").text
    assert client.get("/openapi.json").json()["paths"]["/search/text"]


def test_eight_clients_get_right_answers(client, served_index, model):
    words = ["red", "green", "blue", "red and green", "nothing", "blue and red", "a", "b"]
    searcher = Searcher(served_index, model)
    expected = {
        word: [result.id for result in searcher.search(searcher.query("text", word), 10).results] for word in words
    }

    def search(number):
        word = words[number % 8]
        start = time.perf_counter()
        answer = client.post("/search/text", json={"text": word, "top_k": 10})
        assert answer.status_code == 200
        assert [result["id"] for result in answer.json()["results"]] == expected[word]
        return time.perf_counter() - start

    with ThreadPoolExecutor(8) as pool:
        seconds = list(pool.map(search, range(200)))
    print(f"95th percentile of 200 searches by 8 clients: {1000 * np.percentile(seconds, 95):.0f} ms")
