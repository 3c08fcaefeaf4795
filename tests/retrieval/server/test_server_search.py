"""Searches over HTTP return the same as the index, also under load."""

import io
import json
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


@pytest.fixture(scope="module")
def by_distance(served_index, model, tiny_dataset, start_server):
    """The client of a server that does not rerank."""
    from math_hash.retrieval.server.app import make_app

    return start_server(make_app(served_index, model, tiny_dataset, rerank="none"))


@pytest.mark.parametrize("where", [{}, {"label": "blue"}])
@pytest.mark.parametrize("kind", ["text", "id", "image", "text and image", "text and id"])
def test_pages_of_every_search_are_those_of_the_index(by_distance, served_index, model, tiny_dataset, kind, where):
    """A query of two parts is the sum of their continuous codes, each of length 1; of a row, its signs are known."""
    path = tiny_dataset / "5.png"
    [text], [image] = model.encode_text(["red"], output="continuous"), model.encode_image([path], output="continuous")
    signs = np.where(np.unpackbits(served_index.rows(["7.png"])[0][0]), 1.0, -1.0)
    codes = {"text": text, "image": image, "id": signs}
    total = sum(codes[part] / np.sqrt(np.sum(codes[part] ** 2)) for part in kind.split(" and "))
    [expected] = served_index.search(np.packbits(total >= 0)[None], 60, where)
    found = []
    for offset in range(0, 70, 7):
        options = {"top_k": 7, "offset": offset}
        if kind in ("text", "id"):
            value = {"text": "red", "id": "7.png"}[kind]
            answer = by_distance.post(f"/search/{kind}", json={kind: value, "where": where, **options})
        else:
            data = {"text": "red", "id": "7.png"}
            data = {part: value for part, value in data.items() if part in kind}
            files = {"file": path.read_bytes()} if "image" in kind else None
            route = "image" if kind == "image" else "combined"
            parts = {"data": data, "files": files} if files else {"data": data}
            answer = by_distance.post(f"/search/{route}", params={"where": json.dumps(where), **options}, **parts)
        assert answer.status_code == 200, answer.text
        found += answer.json()["results"]
    assert [result["id"] for result in found] == expected.ids.tolist()
    assert [result["distance"] for result in found] == expected.distances.tolist()


def test_reranked_pages_are_parts_of_one_ranking(served_index, model):
    """Of which only the first candidates are reranked."""
    searcher = Searcher(served_index, model, candidates=20)
    query = searcher.query("text", "red")
    pages = [searcher.search(query, 8, offset=offset).results for offset in range(0, 64, 8)]
    [nearest] = served_index.search(query.code, 60)
    everything = [result.id for page in pages for result in page]
    assert everything[20:] == nearest.ids[20:].tolist()
    assert everything[:20] == [result.id for result in searcher.search(query, 20).results]
    assert sorted(everything[:20]) == sorted(nearest.ids[:20].tolist())


def test_near_duplicates_are_marked_on_every_page(by_distance, served_index):
    """A row is one of the first result within the radius that is no duplicate itself, by a loop over all pairs."""
    ranking = by_distance.post("/search/text", json={"text": "red", "top_k": 60}).json()["results"]
    codes = {
        result["id"]: int.from_bytes(served_index.rows([result["id"]])[0][0].tobytes(), "big") for result in ranking
    }
    expected, firsts = {}, []
    for result in ranking:
        row = result["id"]
        assert result["duplicate_of"] is None
        expected[row] = next((first for first in firsts if bin(codes[first] ^ codes[row]).count("1") <= 1), None)
        if expected[row] is None:
            firsts.append(row)
    assert 1 < len(firsts) < 60
    for offset in range(0, 60, 15):
        query = {"text": "red", "top_k": 15, "offset": offset, "fold": 1}
        page = by_distance.post("/search/text", json=query).json()["results"]
        assert {result["id"]: result["duplicate_of"] for result in page} == {
            result["id"]: expected[result["id"]] for result in ranking[offset : offset + 15]
        }


def test_a_combined_search_needs_two_parts(client):
    for data in ({}, {"text": "red"}, {"id": "5.png"}):
        assert client.post("/search/combined", data=data).status_code == 422
    assert client.post("/search/combined", data={"text": "red", "id": "none"}).status_code == 404


def test_the_other_routes_answer(client):
    thumbnail = client.get("/image", params={"id": "5.png", "size": 20})
    assert Image.open(io.BytesIO(thumbnail.content)).size[1] == 20
    assert client.get("/health").json() == {
        "status": "ok", "rows": 60, "waiting": 0, "k_bits": 16, "method": "MATH", "pictures": True, "token": False,
    }  # fmt: skip
    assert client.post("/search/text", json={"text": "red"}).status_code == 200
    assert 'math_hash_requests_total{method="POST",status="200"}' in client.get("/metrics").text
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
