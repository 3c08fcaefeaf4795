"""Rows are added and deleted over HTTP, with the token only."""

import json

import pytest
from retrieval.server.fixtures import TOKEN, png

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


def test_a_row_added_by_its_text_is_found_by_it(client, model):
    form = {"id": "new/2", "text": "green"}
    assert client.post("/rows", data=form, headers=TOKEN).status_code == 201
    row = client.get("/rows", params={"id": "new/2"}).json()
    assert row == {"id": "new/2", "code": model.encode_text(["green"]).tobytes().hex(), "metadata": {}}
    by_text = client.post("/search/text", json={"text": "green", "top_k": 100, "radius": 0}).json()["results"]
    assert {"id": "new/2", "distance": 0, "metadata": {}, "duplicate_of": None} in by_text
    assert client.delete("/rows", params={"id": "new/2"}, headers=TOKEN).json() == {"count": 60}
