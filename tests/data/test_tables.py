"""Tables as people have them: rows of one picture, faults of a line, and files that are no tables."""

import json
import os

import pytest

from math_hash.data.collection import read_collection
from math_hash.data.records import LARGEST_METADATA, Columns
from math_hash.data.same_picture import refuse_repeats
from math_hash.errors import InputError


def records_of(path, content, columns=None):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_collection(path, columns or Columns())[1])


def test_rows_of_one_picture_below_each_other_are_one_row(tmp_path):
    table = (
        'image,text,labels,year,split\na.jpg,one,"x,y",2015,007\na.jpg,two,y,2016,0.5\na.jpg,one,,,\nb.jpg,,,1e3,-7\n'
    )
    first, second = records_of(tmp_path / "t.csv", table)
    assert (first.image, first.texts, first.labels) == ("a.jpg", ["one", "two"], ["x", "y"])
    assert first.where.endswith("line 2")
    assert first.metadata() == {
        "image": "a.jpg", "text": "one two", "labels": ["x", "y"], "year": 2015, "split": "007",
    }  # fmt: skip
    assert second.metadata() == {"image": "b.jpg", "year": "1e3", "split": -7}


def test_a_picture_that_comes_again_is_named(tmp_path):
    table = "image,text\na.jpg,one\nb.jpg,two\n./a.jpg,three\nb.jpg,four\nc.jpg,five\n"
    records = list(refuse_repeats(records_of(tmp_path / "t.csv", table)))
    reason = "{} came before; put the rows of one picture below each other"
    assert [record.problem for record in records] == ["", "", reason.format("./a.jpg"), reason.format("b.jpg"), ""]


def test_labels_and_label_are_the_same_column(tmp_path):
    for heading in ("labels", "label"):
        [record] = records_of(tmp_path / "t.csv", f"image,{heading}\na.jpg,x\n")
        assert (record.labels, record.others) == (["x"], {})
    [record] = records_of(tmp_path / "t.csv", "image,labels,label\na.jpg,x,y\n")
    assert (record.labels, record.others) == (["x"], {"label": "y"})


@pytest.mark.parametrize("after", ['2.jpg,b\n3.jpg,"c"\n', "2.jpg,b\n" * 12, '2.jpg,"b, ""c"" and d"\n3.jpg,e\n'])
def test_a_quotation_mark_that_is_not_closed_is_an_error(tmp_path, after):
    with pytest.raises(InputError, match=r"t\.csv, line 4: a quotation mark is opened and not closed"):
        records_of(tmp_path / "t.csv", 'image,text\n0.jpg,"two\n' + f'lines"\n1.jpg,"a\n{after}')


def test_a_line_with_a_misplaced_quotation_mark_is_listed_alone(tmp_path):
    records = records_of(tmp_path / "t.csv", 'image,text\n0.jpg,"a"b\n1.jpg,"say ""x"""\n')
    assert [(bool(record.problem), record.texts) for record in records] == [(True, []), (False, ['say "x"'])]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_any_line_ends_in_any_encoding(tmp_path, ends, encoding):
    table = ends.join(["image,text", "a.jpg,été", "b.jpg,x\x0by", ""]).encode(encoding)
    assert [record.texts for record in records_of(tmp_path / "t.csv", table)] == [["été"], ["x y"]]


def test_an_id_of_zero_is_an_id(tmp_path):
    lines = [{"id": 0, "image": "a.jpg"}, {"id": None, "image": "b.jpg"}, {"id": "", "image": "c.jpg", "size": 0}]
    records = records_of(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines)))
    assert [record.id for record in records] == ["0", "", ""]
    assert records[2].others == {"size": 0}


def test_what_cannot_be_written_or_opened_is_listed(tmp_path):
    deep = "[" * 200_000 + "]" * 200_000
    lines = [
        '{"image": "1\\ud800.jpg"}', '{"image": "2.jpg", "text": "\\udfff"}', '{"image": "3.jpg", "other": "\\udfff"}',
        '{"image": "4\\u0000.jpg"}', '{"image": "5.jpg", "id": "\\u0000"}', f'{{"image": "6.jpg", "text": {deep}}}',
        *(json.dumps({"image": f"{size}.jpg", "text": "x" * size}) for size in (LARGEST_METADATA, 10**6)),
    ]  # fmt: skip
    records = records_of(tmp_path / "t.jsonl", "\n".join(lines))
    problems = [record.problem for record in records]
    assert all("is not UTF-8" in problem for problem in problems[:3])
    assert all("null character" in problem for problem in problems[3:5])
    assert "not JSON" in problems[5]
    assert f"expected at most {LARGEST_METADATA}" in problems[6]
    assert problems[7] == ""


def test_a_file_whose_name_is_no_utf_8_is_listed(tmp_path):
    for name in (b"caf\xe9.jpg", b"good.jpg"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    records = {record.problem: record.where for record in read_collection(tmp_path, Columns())[1]}
    assert records.pop("").endswith("good.jpg")
    [(problem, where)] = records.items()
    assert "is not UTF-8" in problem
    assert where.encode().endswith(b"caf\\udce9.jpg")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_devices_and_pipes_are_refused(tmp_path, name):
    os.symlink("/dev/zero", tmp_path / name)
    os.mkfifo(tmp_path / f"pipe-{name}")
    for path in (tmp_path / name, tmp_path / f"pipe-{name}"):
        with pytest.raises(InputError, match="is a device or a pipe"):
            read_collection(path, Columns(needed="text"))


@pytest.mark.parametrize("heading", ["image,text,year", ",image,text,year"])
def test_a_line_with_more_values_than_the_heading_is_listed(tmp_path, heading):
    """A caption with a comma that is not in quotation marks would be cut there; blank cells at the end are harmless."""
    first = "7," if heading.startswith(",") else ""
    lines = ["a.jpg,a dog, running,2015", "b.jpg,a cat,2016,,", '"c.jpg","a dog, running",2017']
    records = records_of(tmp_path / "t.csv", "\n".join([heading, *(first + line for line in lines)]))
    assert ["more values than the heading" in record.problem for record in records] == [True, False, False]
    assert [record.texts for record in records[1:]] == [["a cat"], ["a dog, running"]]


def test_a_heading_that_names_a_column_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="its heading names 'text' twice"):
        records_of(tmp_path / "t.csv", "image,text,text\na.jpg,x,y\n")


def test_numbers_that_are_none_in_json_are_left_out(tmp_path):
    lines = ['{"image": "a.jpg", "n": Infinity}', '{"image": "b.jpg", "n": -1e999}', '{"image": "c.jpg", "n": NaN}']
    assert [record.others for record in records_of(tmp_path / "t.jsonl", "\n".join(lines))] == [{}] * 3
