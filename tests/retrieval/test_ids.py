"""Ids that are refused, and the message that names them."""

import numpy as np
import pytest

from math_hash.errors import InputError
from math_hash.retrieval import open_index

_CODES = np.zeros((3, 1), np.uint8)


@pytest.fixture
def index(tmp_path):
    with open_index(tmp_path / "i", 8) as opened:
        opened.add(["1", "2", "3"], _CODES)
        yield opened


@pytest.mark.parametrize("lone", ["12", b"12", 12, np.array("12"), np.int64(12)])
def test_a_lone_id_is_no_list_of_ids(index, lone):
    for call in (index.delete, index.rows, lambda ids: index.add(ids, _CODES[:2])):
        with pytest.raises(InputError, match="alone; expected a list of ids"):
            call(lone)
    assert len(index) == 3


def test_a_set_whose_order_says_nothing_is_no_list_of_ids(index):
    with pytest.raises(InputError, match="ids: a set, which has no order"):
        index.add({"a", "b", "c"}, _CODES)
    assert len(index) == 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "2"], "id '2' is there already"),
        (["a", "b", "a"], "id 'a' occurs twice"),
        (["a", "b" * 250 + "x" * 7, "c"], "b" * 250 + r"x{7}' \(257 bytes, at place 1\)"),
        (["a", "\ud800", "c"], r"id '\\ud800' \(not UTF-8, at place 1\)"),
    ],
)
def test_the_message_names_the_id_that_is_refused(index, ids, message):
    with pytest.raises(InputError, match=message):
        index.add(ids, _CODES)
    assert len(index) == 3
