"""Putting codes into an index: a call that was killed or refused, and one that goes on."""

import json
import warnings

import numpy as np
import pytest

from math_hash.cli import main
from math_hash.errors import InputError
from math_hash.files import sums_of
from math_hash.retrieval import codes_folder, filling, open_index
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.engines.embedded.index import EmbeddedIndex


def write_codes(path, rows, seed=0):
    """A folder of codes of 16 bits, as `math-hash encode` writes it."""
    path.mkdir()
    codes = np.random.default_rng(seed).integers(0, 256, (rows, 2), np.uint8)
    np.save(path / "codes.npy", codes)
    lines = [json.dumps({"id": f"{seed}/{row}", "metadata": {"row": row, "part": row / 3}}) for row in range(rows)]
    (path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    config = {"format": 1, "k_bits": 16, "model": "m", "count": rows, "sha256": sums_of(path)}
    (path / "config.json").write_text(json.dumps(config))
    return codes


def index_command(codes, index):
    return main(["index", str(codes), "--to", str(index)])


@pytest.fixture
def interrupt(monkeypatch):
    """Run `math-hash` until 20 rows are in the index."""
    monkeypatch.setattr(codes_folder, "_ROWS", 10)
    add, calls = EmbeddedIndex._add, []

    def killed(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(add(*arguments))

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedIndex, "_add", killed)
            assert main([str(argument) for argument in arguments]) == 130

    return run


@pytest.fixture
def interrupted(tmp_path, interrupt):
    """Codes, and an index that holds the first 20 of their 50."""
    codes = write_codes(tmp_path / "codes", 50)
    interrupt("index", tmp_path / "codes", "--output", tmp_path / "index")
    return codes


def test_a_killed_call_is_continued_and_says_so_before(interrupted, tmp_path, capsys):
    folder, index = tmp_path / "codes", tmp_path / "index"
    with pytest.warns(UserWarning, match=f"part of {folder}; go on with `math-hash index {folder} --output {index}`"):
        assert len(open_index(index)) == 20
    write_codes(tmp_path / "other", 5, seed=1)
    with pytest.warns(UserWarning, match="only a part"):
        assert index_command(tmp_path / "other", index) == 2
    assert f"go on with {folder} first" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="only a part"):
        assert index_command(folder, index) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_index(index)
    ids, codes = opened.all_codes()
    assert ids.tolist() == [f"0/{row}" for row in range(50)]
    assert (codes == interrupted).all()
    assert opened.rows(["0/49"])[0][1] == {"row": 49, "part": 49 / 3}


def test_an_index_that_is_complete_refuses_the_same_codes_and_stays_complete(tmp_path, capsys):
    write_codes(tmp_path / "codes", 30)
    assert index_command(tmp_path / "codes", tmp_path / "index") == 0
    assert index_command(tmp_path / "codes", tmp_path / "index") == 2
    assert "id '0/0' is there already" in capsys.readouterr().err
    assert open_index(tmp_path / "index").unfinished == ""


@pytest.mark.filterwarnings("ignore:.*only a part")
def test_going_on_does_not_pass_over_a_row_with_another_code(interrupted, tmp_path):
    with open_index(tmp_path / "index") as index:
        index.delete(["0/7"])
        index.add(["0/7"], ~interrupted[7:8], [{"row": 7, "part": 7 / 3}])
        with pytest.raises(InputError, match="'0/7' is there already, with another code"):
            filling.fill(index, CodesFolder.open(tmp_path / "codes"))


@pytest.mark.filterwarnings("ignore:.*only a part")
def test_an_update_that_was_killed_says_so_and_is_continued(interrupt, tmp_path, capsys):
    write_codes(tmp_path / "codes", 50)
    codes, other = (str(tmp_path / name) for name in ("codes", "other"))
    command = ["index", codes, "--output", str(tmp_path / "index"), "--update"]
    interrupt(*command)
    with pytest.warns(UserWarning, match=f"part of {codes}"):
        assert len(open_index(tmp_path / "index")) == 20
    write_codes(tmp_path / "other", 5, seed=1)
    assert main(["index", other, "--output", str(tmp_path / "index"), "--update"]) == 2
    assert f"go on with {codes} first" in capsys.readouterr().err
    assert main(command) == 0
    with open_index(tmp_path / "index") as index:
        assert (index.unfinished, len(index)) == ("", 50)
        index.set_unfinished("/a/folder/that/is/gone")
    assert main(["index", other, "--output", str(tmp_path / "index"), "--update", "--prune"]) == 0
    with open_index(tmp_path / "index") as index:
        assert (index.unfinished, len(index)) == ("", 5)


def test_an_update_whose_first_rows_are_refused_leaves_the_index_complete(tmp_path):
    with open_index(tmp_path / "index", 16) as index:
        index.add([1], np.zeros((1, 2), np.uint8))
    write_codes(tmp_path / "codes", 5)
    assert main(["index", str(tmp_path / "codes"), "--output", str(tmp_path / "index"), "--update"]) == 2
    assert open_index(tmp_path / "index").unfinished == ""
