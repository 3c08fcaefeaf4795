"""The structures of exact search in the embedded engine: stored, chosen, and never seen in an answer."""

import json
import os
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from math_hash.errors import InputError
from math_hash.hamming import structure
from math_hash.hamming.codes import hamming_distance, pack
from math_hash.retrieval import open_index

CASES = int(os.environ.get("MATH_HASH_CASES", "200")) // 10  # each writes an index to the disk


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 150),
    k_bits=st.sampled_from([1, 7, 8, 13, 64, 65, 130]),
    name=st.sampled_from(["bucket", "mih"]),
    given_up=st.booleans(),
    data=st.data(),
)
def test_structures_filters_deletions_and_unsaved_rows_give_the_order_of_a_stable_sort(
    seed, n, k_bits, name, given_up, data
):
    rng = np.random.default_rng(seed)
    centers = rng.random((4, k_bits)) < 0.5
    codes = pack(centers[rng.integers(0, 4, n)] ^ (rng.random((n, k_bits)) < 0.1))
    queries = np.concatenate([codes[:2], pack(rng.random((1, k_bits)) < 0.5)])
    saved, parity = data.draw(st.integers(0, n)), np.arange(n) % 2
    deleted = np.flatnonzero(rng.random(n) < data.draw(st.sampled_from([0, 0.3, 1])))
    alive = np.setdiff1d(np.arange(n), deleted)
    top_k, radius = data.draw(st.integers(1, n + 3)), data.draw(st.integers(0, k_bits))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_FEWEST_STEPS", 0 if given_up else 2**40)
        with open_index(f"{folder}/i?structure={name}", k_bits) as index:
            metadata = [{"parity": int(value)} for value in parity]
            index.add(range(saved), codes[:saved], metadata[:saved])
            index.save()
            assert index.structure == (name if saved else "scan")
            index.add(range(saved, n), codes[saved:], metadata[saved:])
            index.delete(deleted)
            for where, rows in ((None, alive), ({"parity": 1}, alive[parity[alive] == 1])):
                found = index.search(queries, top_k, where)
                batch = index.search_batch(queries, top_k, where)
                assert batch.ids.shape == batch.distances.shape == (len(queries), top_k)
                near = index.search_radius(queries, radius, where)
                for q, query in enumerate(queries):
                    distances = hamming_distance(query[None], codes[rows])[0]
                    order = np.argsort(distances, kind="stable")
                    some = order[:top_k]
                    assert found[q].ids.tolist() == batch[q].ids.tolist() == rows[some].tolist()
                    assert found[q].distances.tolist() == batch[q].distances.tolist() == distances[some].tolist()
                    assert (batch.ids[q, len(some) :] == -1).all()
                    assert (batch.distances[q, len(some) :] == -1).all()
                    some = order[distances[order] <= radius]
                    assert near[q].ids.tolist() == rows[some].tolist()
                    assert near[q].distances.tolist() == distances[some].tolist()


@pytest.fixture
def short_codes():
    return pack(np.random.default_rng(0).random((12_000, 12)) < 0.5)


def test_the_chosen_structure_is_stored_and_said(tmp_path, short_codes):
    with open_index(tmp_path / "i", 12) as index:
        index.add(range(11_999), short_codes[:-1])
        assert "11,999 codes of 12 bits, engine=exact, structure=scan, 11,999 unsaved" in repr(index)
        wanted = index.search_batch(short_codes[:50], 20)
        index.save()
        assert index.structure == "bucket"
        index.add([11_999], short_codes[-1:])
    with open_index(tmp_path / "i") as index:
        text = repr(index)
        assert all(part in text for part in (index.uri, "12,000 codes", "structure=bucket", "1 unsaved"))
        index.delete([11_999])
        again = index.search_batch(short_codes[:50], 20)
        assert (again.ids == wanted.ids).all()
        assert (again.distances == wanted.distances).all()
    assert "unknown number" in repr(index)  # closed
    assert repr(wanted[0]).startswith("Neighbors(20 rows: 0 at 0, ")
    assert repr(wanted) == "BatchNeighbors(50 queries, top_k 20)"


def test_another_structure_than_the_stored_one_is_built_by_save(tmp_path, short_codes):
    def opened(options=""):
        return open_index(f"{tmp_path}/i{options}", 12)

    with opened("?structure=scan") as index:
        index.add(range(12_000), short_codes)
        index.save()
    with opened() as index:
        index.save()
        assert index.structure == "scan"  # it was asked for, and no row has changed since
    with opened("?structure=mih") as index:
        assert index.structure == "scan"
        index.save()
        assert index.structure == "mih"
    with opened() as index:
        assert index.structure == "mih"
        index.delete([0])
        index.save()
        assert index.structure == "bucket"
    with opened("?structure=scan") as index:
        assert index.structure == "scan"
    for options, message in (
        ("structure=tree", "structure=tree; expected bucket, mih, scan"),
        ("engine=ivf&structure=mih", "belongs to engine=exact"),
    ):
        with pytest.raises(InputError, match=message):
            opened(f"?{options}")


def test_a_snapshot_without_a_structure_opens_and_a_damaged_structure_is_detected(tmp_path, short_codes):
    with open_index(tmp_path / "i", 12) as index:
        index.add(range(12_000), short_codes)
        index.save()
        wanted = index.search_batch(short_codes[:9], 30)
    path = next((tmp_path / "i").glob("snapshot-*/structure-rows.npy"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.warns(UserWarning, match="structure-rows.npy"), open_index(tmp_path / "i") as index:
        assert (index.search_batch(short_codes[:9], 30).ids == wanted.ids).all()
    manifest = json.loads((path.parent / "manifest.json").read_text())
    del manifest["structure"]  # as version 0.1 wrote it
    manifest["sha256"] = {name: value for name, value in manifest["sha256"].items() if "structure" not in name}
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    with open_index(tmp_path / "i") as index:
        assert index.structure == "scan"
        assert (index.search_batch(short_codes[:9], 30).ids == wanted.ids).all()
        index.save()
        assert index.structure == "bucket"
        assert (index.search_batch(short_codes[:9], 30).ids == wanted.ids).all()


@pytest.mark.parametrize("saved", [False, True])
def test_the_longest_codes_have_their_distance_and_longer_ones_are_refused(tmp_path, saved):
    ones = pack(np.ones((1, 32_767), bool))
    with open_index(tmp_path / "i", 32_767) as index:
        index.add([1, 2], np.concatenate([np.zeros_like(ones), ones]))
        if saved:
            index.save()
        [found] = index.search(ones, top_k=3)
        assert (found.ids.tolist(), found.distances.tolist()) == ([2, 1], [0, 32_767])
        assert index.search_batch(ones, top_k=3).distances.tolist() == [[0, 32_767, -1]]
    with pytest.raises(InputError, match="k_bits 32768; expected 1 to 32,767"):
        open_index(tmp_path / "other", 32_768)
    assert not (tmp_path / "other").exists()
