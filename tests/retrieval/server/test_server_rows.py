"""Rows are added and deleted over HTTP, with the token only."""

import json

import numpy as np
import pytest
from retrieval.server.fixtures import TOKEN, png

from math_hash.retrieval import open_index

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.retrieval.server.app import make_app

pytestmark = pytest.mark.server


def test_rows_are_added_and_deleted_with_the_token_only(client):
    form = {"id": "new/1", "metadata": json.dumps({"label": ["mine"]})}
    wrong = {"Authorization": "Bearer x"}
    assert client.post("/rows", data={**form, "text": "green"}).status_code == 401
    assert client.post("/rows", data={**form, "text": "green"}, headers=wrong).status_code == 401
    assert client.post("/rows", data=form, files={"file": png("green")}, headers=TOKEN).json() == {"count": 61}
    assert client.post("/rows", data=form, files={"file": png("green")}, headers=TOKEN).status_code == 409
    assert client.get("/rows", params={"id": "new/1"}).json()["metadata"] == {"label": ["mine"]}
    assert client.delete("/rows", params={"id": "new/1"}).status_code == 401
    assert client.delete("/rows", params={"id": "new/1"}, headers=TOKEN).json() == {"count": 60}
    assert client.delete("/rows", params={"id": "new/1"}, headers=TOKEN).status_code == 404


def test_integers_that_a_browser_would_round_are_strings(model, start_server, tmp_path):
    with open_index(tmp_path / "index", 16) as index:
        large = 2**63 - 1
        index.add([large, 2**53 + 1, 5], np.zeros((3, 2), np.uint8), [{"n": [-(2**60), 7, True]}, None, {"n": "x"}])
        client = start_server(make_app(index, model))
        row = client.get("/rows", params={"id": str(large)}).json()
        assert row == {"id": str(large), "code": "0000", "metadata": {"n": [str(-(2**60)), 7, True]}}
        results = client.post("/search/id", json={"id": str(2**53 + 1)}).json()["results"]
        assert [result["id"] for result in results] == [str(large), str(2**53 + 1), 5]
        where = {"n": [{"max": 0}, 7]}
        assert len(client.post("/search/id", json={"id": "5", "where": where}).json()["results"]) == 1
        answer = client.post("/search/id", json={"id": "5", "where": {"m": 1}})
        assert (answer.status_code, "no row has the field 'm'; fields are n" in answer.text) == (400, True)
        assert client.get("/rows", params={"id": "9" * 19}).status_code == 404


def test_a_row_added_by_its_text_is_found_by_it(client, model):
    form = {"id": "new/2", "text": "green"}
    assert client.post("/rows", data=form, headers=TOKEN).status_code == 201
    row = client.get("/rows", params={"id": "new/2"}).json()
    assert row == {"id": "new/2", "code": model.encode_text(["green"]).tobytes().hex(), "metadata": {}}
    by_text = client.post("/search/text", json={"text": "green", "top_k": 100, "radius": 0}).json()["results"]
    assert {"id": "new/2", "distance": 0, "metadata": {}, "duplicate_of": None} in by_text
    assert client.delete("/rows", params={"id": "new/2"}, headers=TOKEN).json() == {"count": 60}
