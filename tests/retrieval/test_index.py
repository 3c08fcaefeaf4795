"""The index: the same distances from every engine, and an embedded one that survives kills and damage."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from servers import milvus, postgresql

from math_hash.errors import InputError
from math_hash.hamming import scan
from math_hash.hamming.codes import hamming_distance, pack
from math_hash.retrieval import open_index

_number = itertools.count()


@pytest.fixture(scope="module", params=["embedded", "milvus", "postgresql"])
def engine(request, tmp_path_factory):
    """A function that gives the URI of an index that is not there yet."""
    if request.param == "embedded":
        root = tmp_path_factory.mktemp("indexes")
        yield lambda options="": f"{root}/{next(_number)}{options}"
    elif request.param == "milvus":
        with milvus() as server:
            # the default level may still show a row that was deleted a moment ago
            strong = "?consistency=Strong"
            yield lambda options="": f"{server}codes_{next(_number)}{strong}{options.replace('?', '&')}"
    else:
        with postgresql() as server:
            yield lambda options="": f"{server}&table=codes_{next(_number)}{options.replace('?', '&')}"


def random_codes(rows, k_bits, seed=0):
    return pack(np.random.default_rng(seed).random((rows, k_bits)) < 0.5)


def labels(row):
    return {"label": ["even", "all"] if row % 2 == 0 else "odd", "row": row, "ok": row % 3 == 0}


@pytest.mark.parametrize("k_bits", [12, 64, 96])
def test_every_engine_gives_the_distances_of_a_plain_sort(engine, k_bits):
    codes, queries = random_codes(400, k_bits), random_codes(7, k_bits, seed=1)
    wanted = np.sort(hamming_distance(queries, codes), axis=1)
    with open_index(engine(), k_bits) as index:
        index.add([f"row {i}" for i in range(400)], codes, [labels(i) for i in range(400)])
        assert len(index) == 400
        for found, distances, query in zip(index.search(queries, 25), wanted, queries, strict=True):
            assert found.distances.tolist() == distances[:25].tolist()
            places = [int(name.split()[1]) for name in found.ids]
            assert hamming_distance(query[None], codes[places])[0].tolist() == found.distances.tolist()
        radius = int(wanted[:, 9].max())
        for found, distances in zip(index.search_radius(queries, radius), wanted, strict=True):
            assert found.distances.tolist() == distances[distances <= radius].tolist()
        assert len(index.search(queries[:1], 1000)[0]) == 400


def test_radius_takes_distances_up_to_and_with_it(engine):
    codes = pack(np.tril(np.ones((9, 8)), -1))  # row i has i bits set
    with open_index(engine(), 8) as index:
        index.add(range(9), codes)
        for radius in (0, 3, 8, 100):
            found = index.search_radius(codes[:1], radius)[0]
            assert found.ids.tolist() == list(range(min(radius, 8) + 1))
            assert found.ids.dtype == np.int64


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
            ({"nothing": "x"}, []),
        ):
            assert sorted(index.search(codes[:1], 60, where)[0].ids.tolist()) == list(wanted), where
            assert sorted(index.search_radius(codes[:1], 32, where)[0].ids.tolist()) == list(wanted), where
        index.delete([0])
        assert 0 not in index.search(codes[:1], 60, {"label": "even"})[0].ids


def test_deleted_rows_are_gone_and_ids_are_single(engine):
    codes, uri = random_codes(50, 16), engine()
    with open_index(uri, 16, model="a") as index:
        index.add([str(i) for i in range(50)], codes, [{"n": i} for i in range(50)])
        assert index.delete(["3", "4", "nothing"]) == 2
        assert len(index) == 48
        assert index.rows(["3", "5"])[0] is None
        code, about = index.rows(["5"])[0]
        assert about == {"n": 5}
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
            (lambda: index.search(codes, 3, {"a": [1]}), "where 'a'"),
            (lambda: index.search(codes, 3, {"a": 2**70}), "where 'a'"),
            (lambda: index.search(codes, 3, {"a": "\ud800"}), "where 'a'"),
            (lambda: index.add(["a", "b", "\ud800"], codes), "bytes of text"),
        ):
            with pytest.raises(InputError, match=message):
                call()
        assert len(index) == 0
        assert [len(found) for found in index.search(codes, 3)] == [0, 0, 0]
    with pytest.raises(InputError, match=r"unknown option|engine=|refuses|does not answer"):
        open_index(engine("?engine=nonsense"), 16)


@pytest.mark.parametrize("uri", ["milvus://127.0.0.1:1/codes", "postgresql://nobody@127.0.0.1:1/none", "ftp://x/y"])
def test_an_engine_that_is_down_is_one_line(uri):
    pytest.importorskip("pymilvus" if "milvus" in uri else "psycopg")
    with pytest.raises(InputError, match=r"does not answer|no engine") as caught:
        open_index(uri, 16)
    assert "\n" not in str(caught.value)


# ---- the embedded engine ----


@pytest.mark.parametrize("k_bits", [1, 16, 64, 65, 200])
def test_the_scan_equals_a_stable_sort(k_bits):
    rng = np.random.default_rng(k_bits)
    codes = pack(rng.random((5000, k_bits)) < rng.random(k_bits))
    queries, dead = codes[rng.permutation(5000)[:40]], rng.random(5000) < 0.2
    distances, planes = hamming_distance(queries, codes), scan.as_planes(codes)
    for top_k in (1, 10, 700, 5000):
        for some in (queries, queries[:1]):
            rows, found = scan.nearest(some, planes, k_bits, top_k)
            order = np.argsort(distances[: len(some)], axis=1, kind="stable")[:, :top_k]
            assert (rows == order).all()
            assert (found == np.take_along_axis(distances[: len(some)], order, axis=1)).all()
    rows, _ = scan.nearest(queries, planes, k_bits, 5000, dead)
    alive = np.flatnonzero(~dead)
    for query in range(40):
        order = alive[np.argsort(distances[query, alive], kind="stable")]
        assert (rows[query, : len(alive)] == order).all()
        assert (rows[query, len(alive) :] == -1).all()
        for radius in (0, k_bits // 3, k_bits):
            near, found = scan.within(queries[query], planes, radius, dead)
            assert (near == order[distances[query, order] <= radius]).all()
            assert (found == distances[query, near]).all()


def test_ties_are_in_order_of_insertion_across_saves(tmp_path):
    with open_index(tmp_path / "i", 8) as index:
        for start in range(0, 90, 30):
            index.add(range(start, start + 30), np.zeros((30, 1), np.uint8))
            assert index.search(np.zeros((1, 1), np.uint8), 90)[0].ids.tolist() == list(range(start + 30))
            if start == 30:
                index.save()
        index.delete([0, 31, 89])
        wanted = [i for i in range(90) if i not in (0, 31, 89)]
        for _ in range(2):
            assert index.search(np.zeros((1, 1), np.uint8), 90)[0].ids.tolist() == wanted
            assert index.search_radius(np.zeros((1, 1), np.uint8), 0)[0].ids.tolist() == wanted
            index.save()


def test_what_another_process_adds_is_found(tmp_path):
    codes = random_codes(20, 16)
    with open_index(tmp_path / "i", 16) as one, open_index(tmp_path / "i") as other:
        one.add(range(10), codes[:10])
        assert len(other) == 10
        other.add(range(10, 20), codes[10:])
        other.save()
        one.delete([0])
        other.save()
        assert len(one) == len(other) == 19
        assert sorted(one.search(codes[:1], 20)[0].ids.tolist()) == list(range(1, 20))


def test_a_changed_byte_is_noticed(tmp_path):
    codes = random_codes(500, 64)
    with open_index(tmp_path / "i", 64) as index:
        index.add(range(500), codes)
        index.save()
        wanted = index.search(codes[:5], 20)
    for name in ("codes.npy", "ids.npy", "rows.npy", "manifest.json"):
        path = next((tmp_path / "i").glob(f"snapshot-*/{name}"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
        with pytest.warns(UserWarning, match="damaged"):
            index = open_index(tmp_path / "i")
        for found, right in zip(index.search(codes[:5], 20), wanted, strict=True):
            assert (found.ids == right.ids).all()
        index.close()
        path.write_bytes(whole)
    database = sqlite3.connect(tmp_path / "i/rows.sqlite")
    database.execute("UPDATE rows SET code = ? WHERE id = 7", (b"12345678",))
    database.commit()
    database.close()
    with open_index(tmp_path / "i") as index, pytest.raises(InputError, match="id 7 is damaged"):
        index.rows([7])


def test_an_unusable_folder_is_one_line(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/rows.sqlite").write_bytes(b"no database" * 100)
    for name, message in (("other", "is no index"), ("broken", "cannot be opened"), ("i?engine=x", "engine=x")):
        with pytest.raises(InputError, match=message):
            open_index(f"{tmp_path}/{name}", 16)
    with pytest.raises(InputError, match="unknown option"):
        open_index(f"{tmp_path}/i?nprobes=3", 16)
    assert not (tmp_path / "i").exists()


def test_approximate_search_reports_its_recall(tmp_path):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    centres = random_codes(40, 64)
    codes = centres[rng.integers(0, 40, 4000)] ^ pack(rng.random((4000, 64)) < 0.05)
    with open_index(f"{tmp_path}/i?engine=ivf&nlist=40&nprobe=4", 64) as index:
        index.add(range(4000), codes)
        index.save()
        assert 0.9 < index.recall <= 1
        exact = np.sort(hamming_distance(codes[:50], codes), axis=1)[:, :10]
        found = index.search(codes[:50], 10)
        right = sum((f.distances <= e[-1]).sum() for f, e in zip(found, exact, strict=True))
        assert right / 500 > 0.9
        index.delete([0])
        index.add([9999], codes[:1])  # searched exactly until it is saved
        assert index.search(codes[:1], 1)[0].ids.tolist() == [9999]
        assert 0 not in index.search(codes[:1], 100)[0].ids
    with open_index(f"{tmp_path}/i") as index:
        assert index.recall is None
        assert index.search(codes[1:2], 10)[0].distances.tolist() == exact[1].tolist()


_WRITER = """
import sys, numpy as np
from math_hash.retrieval import open_index
index, number = open_index(sys.argv[1], 32), int(sys.argv[2])
while True:
    ids = range(number * 100, number * 100 + 100)
    index.add(ids, np.random.default_rng(number).integers(0, 256, (100, 4), dtype=np.uint8), [{"n": i} for i in ids])
    print("added", number, flush=True)
    if number % 3 == 1:
        index.delete(ids[:50])
        print("deleted", number, flush=True)
    if number % 4 == 2:
        index.save()
        print("saved", number, flush=True)
    number += 1
"""


def test_killed_at_any_moment_it_holds_what_was_acknowledged(tmp_path):
    """Ten kills while it adds, deletes and saves: whole batches only, and all that were acknowledged."""
    rng, number, added, deleted = np.random.default_rng(0), 0, set(), set()
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "i"), str(number)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = [process.stdout.readline()]  # it works by now
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines()
        for what, batch in (line.split() for line in lines if line.strip()):
            (deleted if what == "deleted" else added).add(int(batch))
        with open_index(tmp_path / "i") as index:
            for batch in range(max(added) + 2):
                rows = index.rows(range(batch * 100, batch * 100 + 100))
                there = [row is not None for row in rows]
                if batch in added and batch not in deleted:
                    assert all(there[50:])
                    assert all(there[:50]) or not any(there[:50])
                else:
                    assert all(there) or not any(there[:50])
                codes = np.random.default_rng(batch).integers(0, 256, (100, 4), dtype=np.uint8)
                assert all((row[0] == code).all() for row, code in zip(rows, codes, strict=True) if row)
                number = max(number, batch + 1 if any(there) else 0)
            assert len(index.search(codes[:1], 10**6)[0]) == len(index)
    assert len(added) > 10


def test_metadata_and_ids_of_any_script_come_back(engine):
    codes = random_codes(2, 16)
    with open_index(engine(), 16) as index:
        index.add(["größe/日本.jpg", "a'b;--"], codes, [{"text": 'naïve "x" 日本', "deep": {"a": [1, None]}}, None])
        assert json.loads(json.dumps(index.rows(["größe/日本.jpg"])[0][1])) == {
            "text": "naïve \"x\" 日本", "deep": {"a": [1, None]},
        }  # fmt: skip
        assert sorted(index.search(codes[:1], 2)[0].ids.tolist()) == ["a'b;--", "größe/日本.jpg"]
