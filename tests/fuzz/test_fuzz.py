"""Some dozen damaged files of every format; `python tests/fuzz/run.py` reads any number."""

import os
import time

import pytest
from fuzz.formats import FORMATS, Format
from fuzz.run import failures

CASES = 60  # of each format


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_a_result_or_one_line(tmp_path, name):
    for file, content in FORMATS[name].valid().items():
        (tmp_path / file).write_bytes(content)
        FORMATS[name].read(tmp_path / file)
    assert failures(FORMATS[name], 0, CASES) == {}


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda path: [][0], "IndexError"),
        (lambda path: bytearray(8 << 30), "MemoryError"),
        (lambda path: os.kill(os.getpid(), 9), "died of signal 9"),
        (lambda path: time.sleep(30), "took more than 0.5 seconds"),
    ],
)
def test_every_other_end_is_a_failure_of_its_case(read, expected):
    failed = failures(Format(lambda: {"a": b"abc"}, read), 5, 7, seconds=0.5)
    assert sorted(failed) == [5, 6]
    assert all(expected in reason for reason in failed.values())
