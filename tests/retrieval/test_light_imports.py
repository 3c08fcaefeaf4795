"""Commands that need no model start without PyTorch, and on few codes without numba."""

import subprocess
import sys
from pathlib import Path

import pytest

EARLIER = Path(__file__).resolve().parents[1] / "fixtures" / "earlier"
_PROGRAM = """
import sys
from math_hash.cli import main
assert main(sys.argv[1:]) == 0
print("imported:", *sorted({"torch", "numba", "scipy", "PIL", "fastapi"} & set(sys.modules)))
"""


def imported(*arguments):
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index, and what the command imported that made it."""
    folder = tmp_path_factory.mktemp("light") / "index"
    return folder, imported("index", EARLIER / "codes", "--to", folder)


def test_indexing_imports_neither_pytorch_nor_numba(index):
    assert index[1] == [f"{index[0]}: 8 codes of 12 bits", "structure of exact search: scan", "imported:"]


def test_searching_for_a_row_imports_neither(index):
    lines = imported("search", index[0], "--id", "picture 4", "--top", 3)
    assert lines[1].split()[:4] == ["1", "0", "picture", "4"]
    assert lines[-1] == "imported:"
