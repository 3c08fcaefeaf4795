"""Damaged files of an index end in right rows, fewer rows or one line."""

import random
from contextlib import suppress

import pytest
from fuzz.index_files import read, valid

from math_hash.errors import InputError


def damaged(content: bytes, seed: int) -> bytes:
    """The content with bits flipped, a piece overwritten, left out or doubled, or the end cut off."""
    rng, changed = random.Random(seed), bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(changed)), rng.randint(1, 64)
        what = rng.randrange(5)
        if what <= 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif what == 2:
            changed[place : place + length] = rng.randbytes(length)
        elif what == 3:
            changed[place : place + rng.choice((0, length))] = changed[:length]
        else:
            del changed[place + 1 :]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
def test_valid_files_give_all_rows(tmp_path):
    for name, content in valid().items():
        (tmp_path / name).write_bytes(content)
        read(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_right_rows_or_one_line(tmp_path):
    files = valid()
    for seed in range(80):
        name = ["rows.sqlite", *sorted(files)][seed % (len(files) + 1)]
        (tmp_path / name).write_bytes(damaged(files[name], seed))
        with suppress(InputError):
            read(tmp_path / name)
