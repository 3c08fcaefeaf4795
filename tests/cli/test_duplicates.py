"""`math-hash duplicates`: groups, pairs, leaks and mismatches from folders of codes and indexes."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from math_hash.cli import main
from math_hash.data import split_rows, write_mat
from math_hash.errors import InputError
from math_hash.files import sums_of
from math_hash.hamming.codes import hamming_distance
from math_hash.retrieval import open_index
from math_hash.retrieval.codes_folder import FORMAT
from math_hash.retrieval.index import Index


def command(*arguments):
    return main(["duplicates", *(str(argument) for argument in arguments)])


def write_codes(folder, codes, ids, model="m"):
    """A folder of codes as `math-hash encode` writes it."""
    folder.mkdir()
    np.save(folder / "codes.npy", codes)
    rows = [{"id": name, "metadata": {"image": f"pictures/{name}", "text": f"text of {name}"}} for name in ids]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"format": FORMAT, "k_bits": 8 * codes.shape[1], "model": model, "sha256": sums_of(folder)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def codes():
    """40 codes far apart, but 3 and 30 are equal, 31 differs from them in one bit, and 5 and 6 in two bits."""
    codes = np.random.default_rng(0).integers(0, 256, (40, 8), dtype=np.uint8)
    codes[30] = codes[3]
    codes[31] = codes[3] ^ np.array([1, 0, 0, 0, 0, 0, 0, 0], np.uint8)
    codes[6] = codes[5] ^ np.array([0, 0, 0, 192, 0, 0, 0, 0], np.uint8)
    return codes


@pytest.fixture
def folder(codes, tmp_path):
    return write_codes(tmp_path / "photos.codes", codes, [f"{row}.jpg" for row in range(40)])


def test_groups_are_printed_as_table_json_and_csv(folder, tmp_path, capsys):
    assert command(folder) == 0
    table = capsys.readouterr().out
    assert table.splitlines() == [
        "group 1, 3 rows",
        "       0  3.jpg   pictures/3.jpg | text of 3.jpg",
        "       0  30.jpg  pictures/30.jpg | text of 30.jpg",
        "       1  31.jpg  pictures/31.jpg | text of 31.jpg",
        "group 2, 2 rows",
        "       0  5.jpg   pictures/5.jpg | text of 5.jpg",
        "       2  6.jpg   pictures/6.jpg | text of 6.jpg",
        "2 groups with 5 of 40 rows within radius 2",
    ]
    assert command(folder, "--radius", 1, "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert [(row["group"], row["distance"], row["id"]) for row in records] == [
        (1, 0, "3.jpg"), (1, 0, "30.jpg"), (1, 1, "31.jpg"),
    ]  # fmt: skip
    assert command(folder, "--output", tmp_path / "found.csv", "--limit", 1) == 0
    assert capsys.readouterr().out == f"2 groups with 5 of 40 rows within radius 2: {tmp_path / 'found.csv'}\n"
    with open(tmp_path / "found.csv") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"pictures/{row}.jpg" for row in (3, 30, 31)]
    (tmp_path / "photos.csv").write_text("image,text\n")
    for path, code in ((tmp_path / "found.csv", 0), (tmp_path / "photos.csv", 2)):
        assert command(folder, "--output", path) == code
    assert (tmp_path / "photos.csv").read_text() == "image,text\n"


def test_an_index_is_joined_without_its_deleted_and_with_its_unsaved_rows(codes, tmp_path, capsys):
    ids = [f"row {row}" for row in range(40)]
    with open_index(tmp_path / "i", 64) as index:
        assert list(index.pairs_within(3)) == index.duplicate_groups(3) == []
        index.add(ids[:20], codes[:20])
        index.save()
        index.add(ids[20:], codes[20:], [{"text": f"words {row}"} for row in range(20, 40)])
        index.delete(["row 30", "row 6"])
        [(first, second, distances)] = index.pairs_within(3)
        assert (first.tolist(), second.tolist(), distances.tolist()) == (["row 3"], ["row 31"], [1])
        [group] = index.duplicate_groups(3)
        assert (group.ids.tolist(), group.distances.tolist()) == (["row 3", "row 31"], [0, 1])
        for radius in (-1, 65):
            with pytest.raises(InputError, match=f"radius {radius}; expected 0 to 64"):
                index.pairs_within(radius)
        with pytest.raises(InputError, match="does not hand out all its codes"):  # as the engines that are servers do
            Index.all_codes(index)
    assert command(tmp_path / "i", "--json") == 0
    assert [(row["id"], row["text"]) for row in json.loads(capsys.readouterr().out)] == [
        ("row 3", ""), ("row 31", "words 31"),
    ]  # fmt: skip


def test_two_collections_are_joined(folder, codes, tmp_path, capsys):
    others = write_codes(tmp_path / "others.codes", codes[[6, 31, 0]], ["a", "b", "c"])
    assert command(folder, "--with", others, "--json") == 0
    distances = hamming_distance(codes, codes[[6, 31, 0]])
    wanted = sorted((int(distances[i, j]), f"{i}.jpg", "abc"[j]) for i, j in np.argwhere(distances <= 2))
    pairs = json.loads(capsys.readouterr().out)
    assert sorted((pair["distance"], pair["id"], pair["other_id"]) for pair in pairs) == wanted
    assert [pair["distance"] for pair in pairs] == sorted(pair["distance"] for pair in pairs)


def test_leaks_are_pairs_of_a_query_and_a_training_row(codes, tmp_path, capsys):
    dataset = tmp_path / "mine"
    dataset.mkdir()
    names = [f"{row}.jpg" for row in range(41)]
    write_mat(dataset / "index.mat", {"index": names})
    numbers = {"query_num": 15, "train_num": 20}
    (dataset / "manifest.json").write_text(json.dumps({"split": numbers}))
    kept = [row for row in range(41) if row != 8]  # one picture could not be encoded
    photos = write_codes(tmp_path / "photos.codes", codes, [names[row] for row in kept])
    split, distances = split_rows(41, **numbers), hamming_distance(codes, codes)
    wanted = {
        (names[kept[i]], names[kept[j]])
        for i, j in np.argwhere(distances <= 24)
        if kept[i] in split.query and kept[j] in split.train
    }
    assert command(photos, "--leaks", dataset, "--radius", 24, "--json") == 0
    pairs = json.loads(capsys.readouterr().out)
    assert len(pairs) == len(wanted) > 3
    assert {(pair["id"], pair["other_id"]) for pair in pairs} == wanted
    assert command(photos, "--leaks", dataset, "--query-num", 1, "--train-num", 1) == 0
    assert "of 1 queries" in capsys.readouterr().out
    strangers = write_codes(tmp_path / "strangers.codes", codes, [f"{row}.png" for row in range(40)])
    assert command(strangers, "--leaks", dataset) == 2
    assert "id '0.png' is no row of" in capsys.readouterr().err


def test_mismatches_are_sorted_by_the_distance_of_a_rows_own_codes(folder, codes, tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows = rng.permutation(40)[:30]  # some texts are missing, and they are in another order
    texts = codes[rows] ^ np.packbits(rng.random((30, 64)) < 0.3, axis=1)
    other = write_codes(tmp_path / "texts.codes", texts, [f"{row}.jpg" for row in rows])
    assert command(folder, "--mismatches", other, "--json") == 0
    pairs = json.loads(capsys.readouterr().out)
    own = dict(zip((f"{row}.jpg" for row in rows), np.bitwise_count(codes[rows] ^ texts).sum(axis=1), strict=True))
    assert len(pairs) == 30
    assert all(pair["id"] == pair["other_id"] and pair["distance"] == own[pair["id"]] for pair in pairs)
    assert [pair["distance"] for pair in pairs] == sorted(own.values(), reverse=True)


def test_bad_input_is_one_line(folder, codes, tmp_path, capsys):
    short = write_codes(tmp_path / "short.codes", codes[:, :4], [f"{row}.jpg" for row in range(40)])
    foreign = write_codes(tmp_path / "foreign.codes", codes, [f"{row}.jpg" for row in range(40)], model="n")
    apart = write_codes(tmp_path / "apart.codes", codes, range(40))
    for arguments, message in (
        ([tmp_path / "none"], "no index is there"),
        ([folder, "--radius", -1], "radius -1; expected 0 to 64"),
        ([folder, "--radius", 65], "radius 65; expected 0 to 64"),
        ([folder, "--limit", 0], "--limit 0"),
        ([folder, "--with", short], "32 bits"),
        ([folder, "--with", foreign], "another model"),
        ([folder, "--mismatches", apart], "no id in common"),
        ([folder, "--mismatches", folder, "--radius", 3], "leave it out"),
        ([folder, "--leaks", tmp_path / "none"], "no such file"),
    ):
        assert command(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_no_pytorch_is_imported(folder, tmp_path):
    write_mat(tmp_path / "index.mat", {"index": [f"{row}.jpg" for row in range(40)]})
    code = (
        "import sys; from math_hash.cli import main; _, c, d = sys.argv\n"
        "split = ['--query-num', '9', '--train-num', '9']\n"
        "for more in ([], ['--with', c], ['--mismatches', c], ['--leaks', d, *split]):\n"
        "    assert main(['duplicates', c, *more]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path], check=True, stdout=subprocess.PIPE)
