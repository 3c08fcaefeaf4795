"""Writing folders as a whole: only what this package wrote is replaced, and what killed processes left is removed."""

import os
import subprocess
import sys

import pytest

from math_hash.errors import InputError
from math_hash.files import atomic_folder, remove_abandoned, write_text


def write(path, replaces=("manifest.json",), content="new"):
    with atomic_folder(path, replaces) as building:
        (building / "manifest.json").write_text(content)


def test_only_folders_that_this_package_wrote_are_replaced(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("image,text\n")
    (tmp_path / "link").symlink_to(table)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.jpg").write_bytes(b"x")
    for name, message in (("table.csv", "is a file"), ("link", "is a file"), ("other", "no manifest.json")):
        with pytest.raises(InputError, match=message):
            write(tmp_path / name)
    assert table.read_text() == "image,text\n"
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["photo.jpg"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    write(tmp_path / "real", content="old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/manifest.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    for content in ("one", "two"):
        write_text(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert [path.read_text() for path in (tmp_path / "folder").iterdir()] == [content]


def write_while_another_does(path):
    with atomic_folder(path) as building:
        (building / "file").write_text("new")
        path.mkdir()
        (path / "mine").write_text("mine")


def test_what_appears_while_a_folder_is_built_is_not_replaced(tmp_path):
    with pytest.raises(InputError, match="holds other files"):
        write_while_another_does(tmp_path / "x")
    assert (tmp_path / "x/mine").read_text() == "mine"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = done.stdout.strip(), os.getpid()
    for name in (f".a.{dead}.tmp", f".a.{alive}.tmp", f".b.c.{dead}.tmp", f"a.{dead}.tmp", ".a.tmp"):
        (tmp_path / name).write_text("x")
    unlike = {".a.99999999999999999999.tmp", ".a.².tmp"}  # numbers that no process has
    for name in unlike:
        (tmp_path / name).write_text("x")
    for name in (f".a.{dead}.new", f".b.{dead}.old", f".a.{alive}.new"):
        (tmp_path / name).mkdir()
    remove_abandoned(tmp_path, "a")
    kept = {f".a.{alive}.tmp", f"a.{dead}.tmp", ".a.tmp", f".a.{alive}.new"} | unlike
    left = {path.name for path in tmp_path.iterdir()}
    assert left == kept | {f".b.c.{dead}.tmp", f".b.{dead}.old"}
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
