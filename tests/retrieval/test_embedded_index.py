"""The embedded engine: it survives kills and damage, and sees the changes of other processes."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest

from math_hash.errors import InputError
from math_hash.hamming.codes import hamming_distance, pack
from math_hash.retrieval import open_index
from math_hash.retrieval.engines.embedded.checksum import checksum
from math_hash.retrieval.engines.embedded.stored_metadata import StoredMetadata
from math_hash.retrieval.filters import Clause


def random_codes(rows, k_bits, seed=0):
    return pack(np.random.default_rng(seed).random((rows, k_bits)) < 0.5)


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


def test_rows_that_another_process_adds_are_searched(tmp_path):
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


def test_a_changed_byte_is_detected(tmp_path):
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
        for neighbors, right in zip(index.search(codes[:5], 20), wanted, strict=True):
            assert (neighbors.ids == right.ids).all()
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
    centers = random_codes(40, 64)
    codes = centers[rng.integers(0, 40, 4000)] ^ pack(rng.random((4000, 64)) < 0.05)
    with open_index(f"{tmp_path}/i?engine=ivf&nlist=40&nprobe=4", 64) as index:
        index.add(range(4000), codes)
        index.save()
        assert 0.9 < index.recall <= 1
        exact = np.sort(hamming_distance(codes[:50], codes), axis=1)[:, :10]
        results = index.search(codes[:50], 10)
        right = sum((n.distances <= e[-1]).sum() for n, e in zip(results, exact, strict=True))
        assert right / 500 > 0.9
        index.delete([0])
        index.add([9999], codes[:1])  # searched exactly until the index is saved
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


@pytest.mark.slow
def test_after_a_kill_at_any_moment_it_holds_what_was_acknowledged(tmp_path):
    """Ten kills while it adds, deletes and saves: it holds whole batches only, and all acknowledged ones."""
    rng, number, added, deleted = np.random.default_rng(0), 0, set(), set()
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "i"), str(number)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = [process.stdout.readline()]  # it is running now
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


@pytest.mark.parametrize("k_bits", [12, 64, 70])
def test_neighbors_carry_their_codes(tmp_path, k_bits):
    random = np.random.default_rng(k_bits)
    codes = np.packbits(random.integers(0, 2, (300, k_bits)), axis=1)
    queries = np.packbits(random.integers(0, 2, (4, k_bits)), axis=1)
    with open_index(tmp_path / "index", k_bits) as index:
        index.add(np.arange(200), codes[:200])
        index.save()  # the first rows lie in a snapshot, the others in memory
        index.add(np.arange(200, 300), codes[200:], [{"label": str(row % 3)} for row in range(100)])
        index.delete(np.arange(0, 300, 7))
        found = [
            *index.search(queries, 40),
            *index.search(queries, 400),
            *index.search(queries, 5, {"label": "1"}),
            *index.search_radius(queries, k_bits // 2),
        ]
        for neighbors in found:
            assert len(neighbors)
            assert (neighbors.codes == codes[neighbors.ids]).all()
            assert (index.codes_of(neighbors.ids) == neighbors.codes).all()
        assert index.codes_of([1, 0, 999]).tolist() == [codes[1].tolist(), [0] * codes.shape[1], [0] * codes.shape[1]]


def test_metadata_change_and_ids_codes_and_filters_keep_up(tmp_path):
    codes = random_codes(3, 16)
    with open_index(tmp_path / "i", 16) as index, open_index(tmp_path / "i") as other:
        index.add(["a", "b", "c"], codes, [{"place": "here"}] * 3)
        index.save()
        assert len(other.search(codes[:1], 3, {"place": "here"})[0]) == 3
        index.set_metadata(["c", "a"], [{"place": "there"}, None])
        for opened in (index, other):
            assert opened.search(codes[:1], 3, {"place": "there"})[0].ids.tolist() == ["c"]
            assert opened.search(codes[:1], 3, {"place": "here"})[0].ids.tolist() == ["b"]
            assert [metadata for _, metadata in opened.rows(list("abc"))] == [{}, {"place": "here"}, {"place": "there"}]
        with pytest.raises(InputError, match="has no row of id 'x'"):
            index.set_metadata(["b", "x"], [{"place": "nowhere"}] * 2)
        assert index.rows(["b"])[0][1] == {"place": "here"}  # all or none
        assert (index.all_codes()[1] == codes).all()


@pytest.mark.parametrize("change", ["emptied", "removed", "of another index"])
def test_a_database_without_the_rows_of_its_snapshot_is_noticed(tmp_path, change):
    for name, rows in (("i", 50), ("other", 0)):
        with open_index(tmp_path / name, 16) as index:
            index.add(range(rows), random_codes(rows, 16))
            index.save()
    database = tmp_path / "i/rows.sqlite"
    if change == "removed":
        database.unlink()
    else:
        database.write_bytes((tmp_path / "other/rows.sqlite").read_bytes() if "other" in change else b"")
    for k_bits in (None, 16):
        with pytest.raises(InputError, match=r"a snapshot is beside it; .*--repair"):
            open_index(tmp_path / "i", k_bits)


def test_a_damaged_row_is_named_and_left_out(tmp_path):
    codes = random_codes(300, 64)
    with open_index(tmp_path / "i", 64) as index:
        index.add([f"row {i}" for i in range(300)], codes, [{"n": i % 2} for i in range(300)])
    database = sqlite3.connect(tmp_path / "i/rows.sqlite")
    database.execute("UPDATE rows SET metadata = '{' WHERE id = 'row 299'")
    database.execute("UPDATE rows SET code = 'text' WHERE id = 'row 8'")
    database.commit()
    with pytest.warns(UserWarning, match=r"damaged rows are left out, of id 'row (8|299)'; 'row (8|299)'; run `math-"):
        index = open_index(tmp_path / "i")
    whole = [f"row {i}" for i in range(299) if i != 8]
    even = [name for name in whole if int(name.split()[1]) % 2 == 0]
    assert index.search(codes[:1], 400)[0].ids.size == len(index) == 298
    assert sorted(index.search(codes[:1], 400, {"n": 0})[0].ids) == sorted(even)
    with pytest.raises(InputError, match="'row 8'"):
        index.rows(["row 8"])
    with pytest.raises(InputError, match=r"damaged rows .* before a snapshot"):
        index.save()
    assert index.delete(["row 8", "row 299"]) == 2
    index.save()
    assert index.all_codes()[0].tolist() == whole


def test_a_damaged_row_that_is_replaced_is_whole(tmp_path):
    codes = random_codes(3, 16)
    with open_index(tmp_path / "i", 16) as index:
        index.add(range(3), codes)
    database = sqlite3.connect(tmp_path / "i/rows.sqlite")
    with database:
        database.execute("UPDATE rows SET code = 'text' WHERE id = 1")
    with pytest.warns(UserWarning, match="damaged rows are left out, of id 1"):
        index = open_index(tmp_path / "i")
    index.add([1], codes[1:2], replace=True)
    index.save()
    assert index.all_codes()[0].tolist() == [0, 2, 1]


def test_orphaned_snapshots_and_files_of_killed_processes_are_removed_by_the_next_save(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with open_index(tmp_path / "i", 16) as index:
        index.add(range(9), random_codes(9, 16))
        index.save()
        for name in ("snapshot-0", "snapshot-7", f".snapshot-2.{done.stdout.strip()}.new"):
            (tmp_path / "i" / name).mkdir()
        index.add([9], random_codes(1, 16))
        index.save()
    assert {path.name for path in (tmp_path / "i").iterdir()} == {"rows.sqlite", "snapshot-2"}


def test_metadata_of_damaged_rows_are_left_out_of_filters_and_of_all(tmp_path):
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE rows (row INTEGER, id, code, metadata, sum)")  # numbers may occur twice
    rows = [(1, "a", '{"n": 1}'), (2, "b", '{"n": 1}'), (2, "c", '{"n": 1}'), (4, "d", '{"n": 1}')]
    values = [(number, name, b"x", text, checksum(name, b"x", text)) for number, name, text in rows]
    database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [*values, (5, "e", b"x", "{", 0)])
    metadata = StoredMetadata(database, nullcontext())
    assert metadata.rows_that_pass([Clause("n", (1,))]).tolist() == [1, 4]
    assert [name for chunk in metadata.chunks() for name, _ in chunk] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("replaced", [False, True])
def test_an_index_deleted_under_a_reader_is_noticed(tmp_path, replaced):
    codes = random_codes(9, 16)
    with open_index(tmp_path / "i", 16) as index:
        index.add(range(9), codes)
        index.save()
        shutil.rmtree(tmp_path / "i")
        if replaced:
            open_index(tmp_path / "i", 16).close()
        calls = [lambda: index.search(codes, 2), lambda: index.rows([1]), lambda: index.add([9], codes[:1]), index.save]
        for call in calls:
            with pytest.raises(InputError, match="deleted or replaced since it was opened"):
                call()
