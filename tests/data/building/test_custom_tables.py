"""Tables as a user's own collection: faults of a row are listed, never fatal."""

import csv
import json

import pytest
from miniatures import put_picture, rejected_rows, write_pictures

from math_hash.data import read_dataset, split_rows
from math_hash.data.building import custom


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [("a.csv", ",", "utf-8-sig"), ("a.csv", ";", "cp1252"), ("a.tsv", "\t", "utf-16")],
)
def test_a_table(pictures, tmp_path, run, name, delimiter, encoding):
    table = pictures / name
    with open(table, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "image", "text", "labels"])
        writer.writerow([1, "0.png", f'a "dog"{delimiter}\ntwo lines', "dog| small dog |dog"])
        writer.writerow([2, "1.png", "", "cat"])
        writer.writerow([3, "2.png", "été", ""])
        writer.writerow([4, "sub\\é 6.jpg", "x", "cat|dog"])
        writer.writerow([5, "absent.png", "x", "cat"])
        writer.writerow([6, "", "x", "cat"])
        writer.writerow([7, "../../secret.png", "x", "cat"])
        writer.writerow([8])
    code, printed = run(custom, table, "--separator", "|", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.images == ["0.png", "1.png", "2.png", "sub/é 6.jpg"]
    assert data.captions == [" ".join(f'a "dog"{delimiter} two lines'.split()), "", "été", "x"]
    assert data.label_names == ["cat", "dog", "small dog"]
    assert data.labels.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert data.image_path(3).is_file()
    reasons = [reason for _, reason in rejected_rows(tmp_path / "mine")]
    assert reasons[:3] == [
        "has no picture",
        "../../secret.png leads out of the folder of the pictures",
        "has no picture",
    ]
    assert "absent.png: no such picture" in reasons[3]
    assert "4 rows, listed in rejected.tsv" in printed
    assert "no label        1 rows" in printed


def test_json_lines_with_lists_renamed_columns_and_broken_lines(pictures, tmp_path, run):
    table = tmp_path / "a.jsonl"
    rows = [
        {"file": "0.png", "captions": ["one", "two "], "tags": ["b, with comma", "a"]},
        {"file": "1.png", "captions": None, "tags": "a;b, with comma"},
    ]
    table.write_text("\n".join([*map(json.dumps, rows), "{broken", "[1]", "", '{"captions": "no picture"}']))
    names = ["--image-column", "file", "--text-column", "captions", "--label-column", "tags", "--separator", ";"]
    code, printed = run(custom, table, *names, "--images", pictures, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.manifest["captions"] == [["one", "two"], []]
    assert data.captions == ["one", ""]
    assert data.labels.tolist() == [[1, 1], [1, 1]]
    left_out = rejected_rows(tmp_path / "mine")
    assert [place.rsplit(" ", 1)[1] for place, _ in left_out] == ["3", "4", "6"]
    assert [reason.split(" (")[0] for _, reason in left_out] == ["not JSON", "not a JSON object", "has no picture"]


def test_a_vocabulary_and_a_minimum_count(pictures, tmp_path, run):
    table = pictures / "a.csv"
    table.write_text('image,labels\n0.png,x\n1.png,y\n2.png,"y,x"\n3.png,seldom\n')
    assert run(custom, table, "--min-count", "2", "--output", tmp_path / "mine")[0] == 0
    data = read_dataset(tmp_path / "mine")
    assert data.label_names == ["x", "y"]
    assert data.labels.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    (tmp_path / "names.txt").write_text("y\r\nx\r\nnone has it\r\n")
    options = ["--vocabulary", tmp_path / "names.txt", "--output", tmp_path / "other"]
    code, printed = run(custom, table, *options)
    assert code == 2
    assert "a.csv, line 5: unknown label 'seldom'; known are y; x; none has it" in printed
    assert not (tmp_path / "other").exists()
    table.write_text(table.read_text().replace("seldom", "y"))
    assert run(custom, table, *options, "--labels-as-text")[0] == 0
    data = read_dataset(tmp_path / "other")
    assert data.label_names == ["y", "x", "none has it"]
    assert data.captions == ["x", "y", "y, x", "y"]
    (tmp_path / "names.txt").write_text("x\nx\n")
    assert "names 'x' twice" in run(custom, table, *options)[1]


@pytest.mark.parametrize("is_sorted", [True, False])
def test_no_picture_is_both_in_queries_and_in_training(tmp_path, run, is_sorted):
    (tmp_path / "pictures").mkdir()
    for row in range(30):
        put_picture(tmp_path / f"pictures/{row}.png", row)
    lines = [f"{row}.png,caption {number} of {row},{'ab'[number % 2]}" for row in range(30) for number in range(5)]
    lines = lines if is_sorted else lines[::2] + [f"./{line}" for line in lines[1::2]]
    (tmp_path / "pictures/captions.csv").write_text("\n".join(["image,text,label", *lines]))
    code, printed = run(custom, tmp_path / "pictures/captions.csv", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert sorted(data.images) == sorted(f"{row}.png" for row in range(30))
    for image, texts in zip(data.images, data.texts, strict=True):
        assert sorted(texts) == [f"caption {number} of {image.removesuffix('.png')}" for number in range(5)]
    assert data.labels.tolist() == [[1, 1]] * 30
    split = split_rows(30, 10, 20, 0)
    assert not {data.images[row] for row in split.query} & {data.images[row] for row in split.train}
