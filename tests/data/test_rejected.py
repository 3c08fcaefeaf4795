import pytest

from math_hash import InputError, files
from math_hash.data.rejected import first_few, write_rejected


def test_each_row_is_one_line_of_tab_separated_values(tmp_path):
    write_rejected(tmp_path / "rejected.tsv", [("a.csv, line 3", "not a\tline\n of a table"), (4, "is empty")])
    assert (tmp_path / "rejected.tsv").read_text() == (
        "which\treason\na.csv, line 3\tnot a line of a table\n4\tis empty\n"
    )
    write_rejected(tmp_path / "rejected.tsv", [(7, "7.jpg", "is empty")], ("row", "image", "reason"))
    assert (tmp_path / "rejected.tsv").read_text() == "row\timage\treason\n7\t7.jpg\tis empty\n"
    write_rejected(tmp_path / "rejected.tsv", iter([("x", "y")]), columns=())
    assert (tmp_path / "rejected.tsv").read_text() == "x\ty\n"


def test_a_failed_write_leaves_the_older_file_unchanged(tmp_path, monkeypatch):
    write_rejected(tmp_path / "rejected.tsv", [("a", "b")])
    before = (tmp_path / "rejected.tsv").read_text()

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        write_rejected(tmp_path / "rejected.tsv", [("c", "d")])
    assert (tmp_path / "rejected.tsv").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rejected.tsv"]


def test_a_message_names_only_a_few_values():
    assert first_few(["a", "b"]) == "a; b"
    assert first_few(["a", "b", "c", "d"]) == "a; b; c; and 1 more"
