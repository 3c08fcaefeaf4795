"""`math-hash index --check` and `--repair`: what is wrong with an index, and what is kept of it."""

import shutil
import sqlite3

import numpy as np
import pytest

from math_hash.cli import main
from math_hash.hamming.codes import pack
from math_hash.retrieval import open_index

_ROWS, _SAVED = 3000, 2000
_CODES = pack(np.random.default_rng(0).random((_ROWS, 64)) < 0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index of 3,000 rows less two, whose first 2,000 are in a snapshot with a structure."""
    path = tmp_path_factory.mktemp("whole") / "index"
    metadata = [{"n": row, "text": "x" * 50} for row in range(_ROWS)]
    with open_index(f"{path}?structure=mih", 64, model="m") as index:
        index.add([f"row {row}" for row in range(_SAVED)], _CODES[:_SAVED], metadata[:_SAVED])
        index.save()
        index.add([f"row {row}" for row in range(_SAVED, _ROWS)], _CODES[_SAVED:], metadata[_SAVED:])
        index.delete(["row 5", "row 2500"])
    return path


@pytest.fixture
def index(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "i")


def execute(index, *statements):
    database = sqlite3.connect(index / "rows.sqlite")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def rows_of(path):
    with open_index(path) as index:
        ids, codes = index.all_codes()
        rows = index.rows(ids)
    assert len(set(ids.tolist())) == len(ids)
    for name, code, row in zip(ids.tolist(), codes, rows, strict=True):
        number = int(name.split()[1])
        assert (code == _CODES[number]).all()
        assert (row[0] == code).all()
        assert row[1] in ({"n": number, "text": "x" * 50}, {})
    return dict(zip(ids.tolist(), (row[1] for row in rows), strict=True))


def test_a_whole_index_is_whole(index, capsys):
    assert main(["index", "--check", str(index)]) == 0
    assert capsys.readouterr().out == f"{index}: whole\n"


def damage_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda i: execute(i, "UPDATE rows SET code = x'00' WHERE id = 'row 9'"), "id 'row 9': damaged"),
        (lambda i: execute(i, "DELETE FROM rows WHERE id = 'row 9'"), "row 10 differs from rows.sqlite"),
        (lambda i: damage_byte(next(i.glob("snapshot-*/codes.npy")), 300), "codes.npy: has changed"),
        (lambda i: damage_byte(next(i.glob("snapshot-*/manifest.json")), 30), "manifest.json"),
        (lambda i: damage_byte(i / "rows.sqlite", 4096 * 30 + 5), "rows.sqlite: "),
    ],
)
def test_a_check_names_what_is_damaged(index, capsys, damage, message):
    damage(index)
    assert main(["index", "--check", str(index)]) == 2
    printed = capsys.readouterr()
    assert message in printed.out
    assert f"--repair {index}" in printed.err


def test_a_repair_keeps_all_but_the_damaged_row(index, capsys):
    execute(index, "UPDATE rows SET code = x'00' WHERE id IN ('row 9', 'row 2900')")
    assert main(["index", "--repair", str(index)]) == 0
    assert "2997 rows kept, 1 of them without metadata" in (printed := capsys.readouterr().out)
    assert "1 rows lost: row 2900" in printed
    rows = rows_of(index)
    assert rows["row 9"] == {}  # its code was in the snapshot
    assert rows.keys() == {f"row {row}" for row in range(_ROWS)} - {"row 5", "row 2500", "row 2900"}
    assert (index.parent / "i.damaged/rows.sqlite").exists()
    assert main(["index", "--check", str(index)]) == 0


@pytest.mark.parametrize("page", [1, 20, 60])
def test_a_repair_keeps_what_lies_on_other_pages(index, page):
    content = bytearray((index / "rows.sqlite").read_bytes())
    content[4096 * page : 4096 * page + 4096] = bytes(4096)
    (index / "rows.sqlite").write_bytes(content)
    assert main(["index", "--repair", str(index)]) == 0
    assert len(rows_of(index)) > 2900
    assert "row 5" not in rows_of(index)


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_without_a_database_the_rows_of_the_snapshot_are_kept(index, content):
    (index / "rows.sqlite").unlink()
    if content is not None:
        (index / "rows.sqlite").write_bytes(content)
    assert main(["index", "--repair", str(index)]) == 0
    rows = rows_of(index)
    assert len(rows) == _SAVED
    with open_index(index) as opened:
        assert (opened.k_bits, opened.model) == (64, "m")
