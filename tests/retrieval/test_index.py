"""The index: the same answers from every engine."""

import itertools
import json

import numpy as np
import pytest
from retrieval.servers import milvus, postgresql

from math_hash.errors import InputError
from math_hash.hamming.codes import hamming_distance, pack
from math_hash.retrieval import open_index
from math_hash.retrieval.update import update

_number = itertools.count()
_SERVER = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=["embedded", pytest.param("milvus", marks=_SERVER), pytest.param("postgresql", marks=_SERVER)],
)
def engine(request, tmp_path_factory):
    """A function that returns the URI of an index that does not exist yet."""
    if request.param == "embedded":
        root = tmp_path_factory.mktemp("indexes")
        yield lambda options="": f"{root}/{next(_number)}{options}"
    elif request.param == "milvus":
        with milvus() as server:
            # the default consistency level may still show a row that was just deleted
            strong = "?consistency=Strong"
            yield lambda options="": f"{server}codes_{next(_number)}{strong}{options.replace('?', '&')}"
    else:
        with postgresql() as server:
            yield lambda options="": f"{server}&table=codes_{next(_number)}{options.replace('?', '&')}"


def random_codes(rows, k_bits, seed=0):
    return pack(np.random.default_rng(seed).random((rows, k_bits)) < 0.5)


def labels(row):
    day = {"day": "2015-03-30"} if row == 30 else {}
    return {"label": ["even", "all"] if row % 2 == 0 else "odd", "row": row, "ok": row % 3 == 0, **day}


@pytest.mark.parametrize("k_bits", [12, 64, 96])
def test_every_engine_gives_the_distances_of_a_plain_sort(engine, k_bits):
    codes, queries = random_codes(400, k_bits), random_codes(7, k_bits, seed=1)
    wanted = np.sort(hamming_distance(queries, codes), axis=1)
    with open_index(engine(), k_bits) as index:
        index.add([f"row {i}" for i in range(400)], codes, [labels(i) for i in range(400)])
        assert len(index) == 400
        for neighbors, distances, query in zip(index.search(queries, 25), wanted, queries, strict=True):
            assert neighbors.distances.tolist() == distances[:25].tolist()
            places = [int(name.split()[1]) for name in neighbors.ids]
            assert hamming_distance(query[None], codes[places])[0].tolist() == neighbors.distances.tolist()
        radius = int(wanted[:, 9].max())
        for neighbors, distances in zip(index.search_radius(queries, radius), wanted, strict=True):
            assert neighbors.distances.tolist() == distances[distances <= radius].tolist()
        assert len(index.search(queries[:1], 1000)[0]) == 400
        batch = index.search_batch(queries, 410)
        assert batch.ids.shape == batch.distances.shape == (7, 410)
        assert (batch.distances[:, :400] == wanted).all()
        assert (batch.distances[:, 400:] == -1).all()
        assert (batch.ids[:, 400:] == "").all()
        assert sorted(batch[3].ids) == sorted(f"row {i}" for i in range(400))
        assert "400 codes" in repr(index)


def test_the_radius_is_inclusive(engine):
    codes = pack(np.tril(np.ones((9, 8)), -1))  # row i has i bits set
    with open_index(engine(), 8) as index:
        index.add(range(9), codes)
        for radius in (0, 3, 8, 100):
            neighbors = index.search_radius(codes[:1], radius)[0]
            assert neighbors.ids.tolist() == list(range(min(radius, 8) + 1))
            assert neighbors.ids.dtype == np.int64


def test_filters_choose_rows_by_value_or_member(engine):
    codes = random_codes(60, 32)
    with open_index(engine(), 32) as index:
        index.add(range(60), codes, [labels(i) for i in range(60)])
        for where, wanted in (
            ({"label": "even"}, range(0, 60, 2)),
            ({"label": "odd"}, range(1, 60, 2)),
            ({"label": "all", "ok": True}, range(0, 60, 6)),
            ({"row": 7}, [7]),
            ({"row": "7"}, []),
            ({"label": ["odd", "nothing"], "row": [1, 2, 3]}, [1, 3]),
            ({"label": {"not": ["even", "x"]}, "row": {"max": 4}}, [1, 3]),
            ({"label": {"all": ["even", {"not": "odd"}]}, "row": {"min": 50, "max": 55.5}}, [50, 52, 54]),
            ({"row": {"min": "0"}}, []),
            ({"day": {"min": "2015-03", "max": "2015-04"}}, [30]),
            ({"day": {"not": {"max": "2015-04"}}}, [*range(30), *range(31, 60)]),
            ({"labels": "all", "row": [{"max": 1}, 8]}, [0, 8]),
        ):
            assert sorted(index.search(codes[:1], 60, where)[0].ids.tolist()) == list(wanted), where
            assert sorted(index.search_radius(codes[:1], 32, where)[0].ids.tolist()) == list(wanted), where
            assert sorted(index.ids(where).tolist()) == list(wanted), where
        with pytest.raises(InputError, match="no row has the field 'lable'; fields are day, label, ok, row"):
            index.search(codes[:1], 60, {"lable": {"not": "even"}})
        index.delete([0])
        assert 0 not in index.search(codes[:1], 60, {"label": "even"})[0].ids


def test_deleted_rows_are_gone_and_an_id_is_added_once(engine):
    codes, uri = random_codes(50, 16), engine()
    with open_index(uri, 16, model="a") as index:
        index.add([str(i) for i in range(50)], codes, [{"n": i} for i in range(50)])
        assert index.delete(["3", "4", "nothing"]) == 2
        assert len(index) == 48
        assert index.rows(["3", "5"])[0] is None
        code, metadata = index.rows(["5"])[0]
        assert metadata == {"n": 5}
        assert (code == codes[5]).all()
        assert not {"3", "4"} & set(index.search(codes[3:5], 48)[0].ids)
        for ids in (["5"], ["x", "x"]):
            with pytest.raises(InputError, match=r"already|twice"):
                index.add(ids, codes[: len(ids)])
        with pytest.raises(InputError, match=r"one kind|all int"):
            index.add([7], codes[:1])
        index.add(["3"], codes[3:4])
        index.save()
    with open_index(uri) as index:
        assert (index.k_bits, index.model, len(index)) == (16, "a", 49)
        assert index.rows(["3"])[0][1] == {}
        for k_bits, model, message in ((8, "", "16 bits, not 8"), (16, "b", "another model")):
            with pytest.raises(InputError, match=message):
                open_index(uri, k_bits, model)


def test_an_update_adds_new_rows_and_replaces_changed_ones(engine):
    codes, rows = random_codes(40, 16), [labels(i) for i in range(40)]
    with open_index(engine(), 16) as index:
        assert index.ids().tolist() == []
        index.add(range(30), codes[:30], rows[:30])
        changed = codes.copy()
        changed[3] ^= 129
        rows[5] = {"label": "other"}
        assert update(index, range(40), changed, rows) == (10, 2)
        assert update(index, range(40), changed, rows) == (0, 0)
        assert sorted(index.ids().tolist()) == list(range(40))
        assert [(code.tolist(), row) for code, row in index.rows(range(40))] == list(
            zip(changed.tolist(), rows, strict=True)
        )
        assert index.search(changed[3:4], 1)[0].distances.tolist() == [0]
        with pytest.raises(InputError, match="already"):
            index.add([3], codes[3:4])


def test_wrong_input_is_one_line_and_changes_nothing(engine):
    uri = engine()
    with pytest.raises(InputError, match=r"no .* is there|no such"):
        open_index(uri)
    with open_index(uri, 16) as index:
        codes = random_codes(3, 16)
        for call, message in (
            (lambda: index.add([1, 2], codes), "as many"),
            (lambda: index.add([1, 2, 3], random_codes(3, 24)), "packed codes of 16 bits"),
            (lambda: index.add([1, 2, 3], codes.astype(np.int64)), "uint8"),
            (lambda: index.add([1, 2, "3"], codes), "all int, or all str"),
            (lambda: index.add([1, 2, 2**70], codes), "63 bits"),
            (lambda: index.add(["a", "b", ""], codes), "1 to"),
            (lambda: index.search(codes[:, :1]), "packed codes"),
            (lambda: index.search(codes, 0), "top_k 0"),
            (lambda: index.search_radius(codes, -1), "radius -1"),
            (lambda: index.search(codes, 3, {"a": [[1]]}), "where 'a'"),
            (lambda: index.search(codes, 3, {"a": 2**70}), "where 'a'"),
            (lambda: index.search(codes, 3, {"a": "\ud800"}), "where 'a'"),
            (lambda: index.add(["a", "b", "\ud800"], codes), "bytes of text"),
        ):
            with pytest.raises(InputError, match=message):
                call()
        assert len(index) == 0
        assert [len(neighbors) for neighbors in index.search(codes, 3)] == [0, 0, 0]
        assert index.search_batch(codes, 3).ids.tolist() == [[-1, -1, -1]] * 3
        assert index.search_batch(codes[:0], 3).ids.shape == (0, 3)
    with pytest.raises(InputError, match=r"unknown option|engine=|refuses|does not answer"):
        open_index(engine("?engine=nonsense"), 16)


def test_metadata_and_ids_of_any_script_come_back(engine):
    codes = random_codes(2, 16)
    with open_index(engine(), 16) as index:
        index.add(["größe/日本.jpg", "a'b;--"], codes, [{"text": 'naïve "x" 日本', "deep": {"a": [1, None]}}, None])
        assert json.loads(json.dumps(index.rows(["größe/日本.jpg"])[0][1])) == {
            "text": "naïve \"x\" 日本", "deep": {"a": [1, None]},
        }  # fmt: skip
        assert sorted(index.search(codes[:1], 2)[0].ids.tolist()) == ["a'b;--", "größe/日本.jpg"]


@pytest.mark.parametrize("uri", ["milvus://127.0.0.1:1/codes", "postgresql://nobody@127.0.0.1:1/none", "ftp://x/y"])
def test_an_engine_that_is_down_is_one_line(uri):
    pytest.importorskip("pymilvus" if "milvus" in uri else "psycopg")
    with pytest.raises(InputError, match=r"does not answer|no engine") as caught:
        open_index(uri, 16)
    assert "\n" not in str(caught.value)
