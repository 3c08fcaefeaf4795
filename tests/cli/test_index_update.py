"""`math-hash index --update` and `math-hash delete`."""

import json

import numpy as np
import pytest

from math_hash.cli import main
from math_hash.files import sums_of
from math_hash.retrieval import open_index


def write_codes(folder, rows):
    """A folder of codes of 8 bits: id -> (code, label)."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "codes.npy", np.array([[code] for code, _ in rows.values()], np.uint8))
    lines = [{"id": name, "metadata": {"label": label}} for name, (_, label) in rows.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"format": 1, "k_bits": 8, "count": len(rows), "model": "m", "bit_order": list(range(8))}
    config["sha256"] = sums_of(folder, ["codes.npy", "rows.jsonl"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def content(uri):
    with open_index(uri) as index:
        ids = sorted(index.ids().tolist())
        return {name: (row[0].item(), row[1]["label"]) for name, row in zip(ids, index.rows(ids), strict=True)}


@pytest.fixture
def uri(tmp_path):
    """An index of four rows."""
    rows = {"a": (1, "cat"), "b": (2, "dog"), "c": (3, "dog"), "d": (4, "bird")}
    assert main(["index", str(write_codes(tmp_path / "codes", rows)), "--output", str(tmp_path / "index")]) == 0
    assert content(tmp_path / "index") == rows
    return str(tmp_path / "index")


def test_an_update_adds_and_replaces_and_removes_only_when_it_prunes(uri, tmp_path, capsys):
    rows = {"a": (1, "cat"), "b": (9, "dog"), "c": (3, "cow"), "e": (5, "fish")}
    codes = str(write_codes(tmp_path / "codes", rows))
    assert main(["index", codes, "--output", uri]) == 2
    assert main(["index", codes, "--output", uri, "--prune"]) == 2
    assert "give --update too" in capsys.readouterr().err
    assert main(["index", codes, "--output", uri, "--update"]) == 0
    assert "1 added, 2 replaced, 0 removed" in capsys.readouterr().out
    assert content(uri) == {**rows, "d": (4, "bird")}
    assert main(["index", codes, "--to", uri, "--update", "--prune"]) == 0
    assert "0 added, 0 replaced, 1 removed" in capsys.readouterr().out
    assert content(uri) == rows


def test_rows_are_deleted_by_id_or_by_filter(uri, capsys):
    assert main(["delete", uri, "a", "x", "a"]) == 0
    printed = capsys.readouterr()
    assert "1 rows deleted, 3 left" in printed.out
    assert printed.err == "note: x: no row has that id\n"
    assert main(["delete", uri, "--filter", "label=dog"]) == 0
    assert "2 rows deleted, 1 left" in capsys.readouterr().out
    assert content(uri) == {"d": (4, "bird")}
    for wrong in ([], ["d", "--filter", "label=bird"]):
        assert main(["delete", uri, *wrong]) == 2
        assert "ids or --filter" in capsys.readouterr().err
    assert main(["delete", uri + "x", "d"]) == 2
