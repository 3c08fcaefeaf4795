"""What the server says is in the collection, compared with plain counts."""

from collections import Counter

import numpy as np
import pytest
from retrieval.server.fixtures import TOKEN

from math_hash.retrieval import open_index
from math_hash.retrieval.facets import FieldCounter, folding_radius
from math_hash.retrieval.index import Index

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


def facets_of(rows):
    counter = FieldCounter()
    for row in rows:
        counter.add(row)
    return {(facet["field"], facet["kind"]): facet for facet in counter.facets()}


def test_values_are_counted_per_row():
    rng = np.random.default_rng(0)
    names = np.array([f"label {number}" for number in range(60)])
    rows = [
        {"label": rng.choice(names, rng.integers(0, 5)).tolist(), "is_open": bool(rng.integers(2))} for _ in range(500)
    ]
    facets = facets_of(rows)
    truth = Counter(label for row in rows for label in set(row["label"]))
    values = facets["label", "values"]["values"]
    assert facets["label", "values"]["distinct"] == len(truth)
    assert len(values) == 40
    assert all(truth[value["value"]] == value["count"] for value in values)
    assert [value["count"] for value in values] == sorted(truth.values(), reverse=True)[:40]
    is_open = {value["value"]: value["count"] for value in facets["is_open", "values"]["values"]}
    assert is_open == Counter(row["is_open"] for row in rows)


def test_numbers_and_dates_are_ranges_and_what_names_a_row_is_left_out():
    rows = [
        {
            "image": "a.jpg",
            "text": "same",
            "year": year,
            "taken": f"{year}-05-06T07:08:09",
            "name": f"n{year}",
            'a"b': "x",
        }
        for year in (2020, 2018, 2024)
    ]
    facets = facets_of([*rows, *rows])
    assert set(facets) == {("year", "number"), ("taken", "date"), ("name", "values")}
    assert (facets["year", "number"]["min"], facets["year", "number"]["max"]) == (2018, 2024)
    assert facets["taken", "date"]["min"] == "2018-05-06T07:08:09"
    assert facets_of(rows).keys() == {("year", "number"), ("taken", "date")}  # each name once: nothing to choose from
    assert not facets_of([{"caption": f"{number}" if number else "twice"} for number in range(-1500, 1500)] * 2)
    assert not facets_of([{"caption": "long " * 50}] * 2)


@pytest.mark.parametrize(("copies", "expected"), [(1, 2), (4, None)])
def test_results_are_folded_where_near_duplicates_are_rare(tmp_path, copies, expected):
    codes = np.repeat(np.random.default_rng(0).integers(0, 256, (50, 8), np.uint8), copies, axis=0)
    codes = np.concatenate([codes, codes[:1] ^ np.uint8(1)])  # one bit of each byte differs: distance 8
    with open_index(tmp_path / "i", 64) as index:
        index.add(range(len(codes)), codes)
        assert folding_radius(index, list(range(50))) == expected
        assert folding_radius(index, []) is None


@pytest.mark.server
def test_facets_follow_the_rows(client, served_index):
    answer = client.get("/facets").json()
    assert answer["rows"] == answer["counted"] == 60
    labels = Counter(label for row in served_index.rows([f"{n}.png" for n in range(60)]) for label in row[1]["label"])
    [facet] = answer["facets"]
    assert {value["value"]: value["count"] for value in facet["values"]} == labels
    assert len({example["id"] for example in answer["examples"]}) == 48
    assert client.get("/facets").json() == answer
    form = {"id": "new", "text": "green", "metadata": '{"label": ["red"]}'}
    assert client.post("/rows", data=form, headers=TOKEN).status_code == 201
    [facet] = client.get("/facets").json()["facets"]
    assert {value["value"]: value["count"] for value in facet["values"]} == labels + Counter(["red"])
    client.delete("/rows", params={"id": "new"}, headers=TOKEN)
    assert client.get("/facets").json() == answer


@pytest.mark.server
def test_an_engine_that_hands_out_no_rows_has_no_facets(client, served_index, monkeypatch):
    monkeypatch.setattr(type(served_index), "all_metadata", Index.all_metadata)
    monkeypatch.setattr(type(served_index), "__len__", lambda index: 61)  # so that what is kept is not taken
    assert client.get("/facets").json() == {"rows": 61, "counted": 0, "facets": [], "examples": [], "fold": None}
