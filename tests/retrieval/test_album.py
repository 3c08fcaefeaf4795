"""An album equals its folder of photographs, whatever happened to the files and to the syncs."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ON_CPU
from retrieval import albums
from retrieval.albums import begin, content_of, draw

from math_hash import InputError
from math_hash.retrieval import album as album_module
from math_hash.retrieval.album import Album

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def open_album(tmp_path, trained_run, model):
    """A function that opens the album NAME of the folder `photos`, with the trained model, and begins it if need be."""
    opened = []

    def open_it(name="photos.album"):
        if not (tmp_path / name).exists():
            begin(tmp_path / name, tmp_path / "photos", trained_run, model)
        opened.append(Album(tmp_path / name, lambda _: model))
        return opened[-1]

    yield open_it
    for album in opened:
        album.index.close()


def change(photos: Path) -> None:
    """Add, change, move, copy and delete files of the 20 that `twenty` drew, and add one that is no picture."""
    for name in range(6):
        draw(photos / f"new/{name}.png", 100 + name)
    draw(photos / "03.png", 200)
    draw(photos / "04.png", 201)
    (photos / "05.png").rename(photos / "new/moved.png")
    shutil.copy(photos / "06.png", photos / "00-copy.png")
    for name in ("07", "08", "09"):
        (photos / f"{name}.png").unlink()
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "film.mp4").write_bytes(b"")


@pytest.fixture
def twenty(tmp_path):
    photos = tmp_path / "photos"
    for name in range(20):
        draw(photos / f"{name:02d}.png", name)
    return photos


def test_a_sync_says_what_it_did_and_ends_like_a_fresh_album(twenty, open_album, model):
    album = open_album()
    assert len(album.sync().added) == 20 == len(album.index)
    before = content_of(album)
    change(twenty)
    changes = album.sync()
    assert sorted(changes.added) == ["00-copy.png", *(f"new/{name}.png" for name in range(6))]
    assert sorted(changes.changed) == ["03.png", "04.png"]
    assert changes.moved == [("05.png", "new/moved.png")]
    assert changes.deleted == ["07.png", "08.png", "09.png"]
    assert changes.pictures == 24
    skipped = {"broken.jpg": "cannot be decoded (of no format that is read)", "film.mp4": "is no picture (.mp4)"}
    assert dict(changes.skipped) == skipped
    assert (album.folder / "skipped.tsv").read_text().splitlines()[1:] == ["\t".join(item) for item in skipped.items()]
    after, fresh = content_of(album), open_album("fresh.album")
    fresh.sync()
    assert after == content_of(fresh)
    [moved] = [row_id for row_id, (_, metadata) in after.items() if metadata["image"] == "new/moved.png"]
    assert before[moved][0] == after[moved][0]  # its id and its code are as they were
    [copied] = [metadata for _, metadata in after.values() if metadata.get("copies")]
    assert (copied["image"], copied["copies"]) == ("00-copy.png", ["06.png"])
    for code, metadata in after.values():
        assert code == model.encode_image([twenty / metadata["image"]]).tobytes()
        assert (metadata["width"], metadata["height"]) == (48, 40)
    (twenty / "00-copy.png").unlink()
    assert album.sync().deleted == ["00-copy.png"]
    assert "copies" not in str(content_of(album))


@pytest.mark.slow
def test_a_sync_that_is_killed_anywhere_goes_on_at_the_next(twenty, open_album, tmp_path):
    album = open_album()
    album.sync()
    change(twenty)
    start = shutil.copytree(album.folder, tmp_path / "start.album")
    config = (start / "album.json").read_text()
    (start / "album.json").write_text(config.replace('"../photos"', f'"{twenty}"'))  # copies may lie anywhere
    environment = os.environ | ON_CPU | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    command = [sys.executable, albums.__file__, str(start), str(tmp_path / "killed")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    album.sync()
    wanted = content_of(album)
    for number, place in enumerate(albums.PLACES):
        killed = open_album(f"killed/{number}")
        killed.sync()
        assert content_of(killed) == wanted, place
        assert not killed.sync(), place  # nothing is left to do


def test_files_are_read_again_only_if_size_or_time_differ(twenty, open_album, monkeypatch):
    album = open_album()
    for file in twenty.iterdir():
        os.utime(file, ns=(10**18, 10**18))
    album.sync()
    read = []
    original = album_module.with_sums.__globals__["sha256"]
    monkeypatch.setitem(
        album_module.with_sums.__globals__, "sha256", lambda path: read.append(path.name) or original(path)
    )
    draw(twenty / "02.png", 99)
    os.utime(twenty / "03.png")
    assert open_album().sync().changed == ["02.png"]
    assert sorted(read) == ["02.png", "03.png"]
    (album.folder / "manifest.jsonl").write_text("damaged\n")  # only saves reading
    assert not open_album().sync()
    assert len(read) == 22


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_sync(twenty, open_album, monkeypatch):
    album = open_album()
    original = album_module.read_pictures

    def disturbed(*arguments):
        draw(twenty / "02.png", 99)
        (twenty / "03.png").unlink()
        return original(*arguments)

    monkeypatch.setattr(album_module, "read_pictures", disturbed)
    assert {path for path, reason in album.sync().skipped if "next sync" in reason} == {"02.png", "03.png"}
    monkeypatch.undo()
    assert album.sync().added == ["02.png"]


def test_an_empty_folder_and_a_second_sync_change_nothing(twenty, open_album, tmp_path, monkeypatch):
    album = open_album()
    album.sync()
    monkeypatch.setattr(album_module, "_PATIENCE", 0.1)
    with album_module._alone(album.folder), pytest.raises(InputError, match="wait for the other sync"):
        open_album().sync()
    twenty.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no such folder"):
        album.sync()
    twenty.mkdir()
    with pytest.raises(InputError, match="is a disk missing"):
        album.sync()
    assert len(album.index) == 20


def test_links_hidden_files_and_names_that_are_no_text_are_left_out(twenty, open_album, tmp_path):
    draw(tmp_path / "outside.png", 50)
    (twenty / "link.png").symlink_to(tmp_path / "outside.png")
    draw(tmp_path / "elsewhere/b.png", 52)
    (twenty / "linked").symlink_to(tmp_path / "elsewhere")
    draw(twenty / ".hidden/a.png", 51)
    os.rename(twenty / "19.png", os.fsencode(twenty) + b"/\xff.png")
    changes = open_album().sync()
    assert len(changes.added) == 19
    links = dict.fromkeys(["linked", "link.png"], "is a symbolic link")
    assert dict(changes.skipped) == {**links, "\\udcff.png": "its name is no valid UTF-8"}


def test_the_album_of_a_folder_below_is_left_out(twenty, open_album):
    with open_album() as album:
        album.sync()
        shutil.copytree(album.folder, twenty / "2024.album")
        changes = album.sync()
        assert not changes
        assert not changes.skipped


def test_a_pipe_with_the_name_of_a_picture_is_skipped(twenty, open_album):
    os.mkfifo(twenty / "pipe.jpg")
    with open_album() as album:
        assert ("pipe.jpg", "is no file") in album.sync().skipped


def test_a_stopped_sync_keeps_what_it_has(twenty, open_album, monkeypatch):
    monkeypatch.setattr(album_module, "_BATCH", 4)
    stop = threading.Event()
    stop.set()
    album = open_album()
    assert len(album.sync(stop=stop).added) == 4
    assert len(album.sync().added) == 16
