import pytest

from math_hash import InputError
from math_hash.data.text_files import read_lines, read_text, stream_lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_line_ends_do_not_matter(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("café\r\n\r\nsecond line\r\n".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "café\n\nsecond line\n"
    assert read_lines(tmp_path / "a.txt") == ["café", "", "second line"]
    assert list(stream_lines(tmp_path / "a.txt")) == ["café\n", "\n", "second line\n"]


def test_each_line_that_is_not_utf_8_is_windows_1252(tmp_path):
    (tmp_path / "a.txt").write_bytes("été\n".encode() + "été’s\n".encode("cp1252"))
    assert read_lines(tmp_path / "a.txt") == ["été", "été’s"]
    assert list(stream_lines(tmp_path / "a.txt")) == ["été\n", "été’s\n"]


def test_a_missing_file_is_named(tmp_path):
    for read in (read_text, read_lines, lambda path: list(stream_lines(path))):
        with pytest.raises(InputError, match=r"absent\.txt: cannot be read: No such file"):
            read(tmp_path / "absent.txt")
