"""`math-hash album` and `math-hash sync`, from a folder of pictures to a page."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest
from conftest import ON_CPU
from retrieval.albums import draw

from math_hash.cli import main

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    return main([str(argument) for argument in arguments])


@contextmanager
def album_command(folder, *arguments):
    """A running `math-hash album` in `folder`, and its client."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/opened\n')
    browser.chmod(0o755)
    environment = os.environ | ON_CPU | {"PYTHONPATH": str(ROOT), "BROWSER": f"{browser} %s"}
    process = subprocess.Popen(
        [sys.executable, "-m", "math_hash", "album", "photos", "--port", port, *map(str, arguments)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "took too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.server
def test_one_command_leads_to_a_page_that_follows_the_folder(clip_file, tmp_path, capsys):
    photos, album = tmp_path / "photos", tmp_path / "photos.album"
    for name in range(12):
        draw(photos / f"{name}.png", name)
    for left in (".model.999999999.new", "model"):  # by a process that was killed before the album was begun
        (album / left).mkdir(parents=True)
    flags = ("--clip-path", clip_file, "--resolution", 32)
    with album_command(tmp_path, *flags, "--watch", "--every", 0.2) as (process, client):
        wait_for((tmp_path / "opened").is_file, process)
        wait_for(lambda: (tmp_path / "opened").read_text(), process)
        assert (tmp_path / "opened").read_text().strip() == f"{client.base_url}/"
        found = client.post("/search/text", json={"text": "a dog on a beach", "top_k": 20}).json()["results"]
        assert {row["metadata"]["image"] for row in found} == {f"{name}.png" for name in range(12)}
        like = client.post("/search/image", files={"file": (photos / "5.png").read_bytes()}).json()["results"][0]
        assert (like["metadata"]["image"], like["distance"]) == ("5.png", 0)
        assert client.get("/image", params={"id": like["id"]}).headers["content-type"] == "image/jpeg"
        draw(photos / "late.png", 99)
        (photos / "0.png").unlink()
        (photos / "1.png").rename(photos / "b.png")
        wait_for(lambda: client.get("/health").json()["rows"] == 12, process)
        wait_for(lambda: "late.png" in (album / "manifest.jsonl").read_text(), process)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in printed
        assert "12 photographs: 12 added" in printed
    draw(photos / "new.png", 100)
    assert command("sync", photos) == 0
    assert capsys.readouterr().out.startswith(f"{album}: 13 photographs: 1 added, 0 changed, 0 moved, 0 deleted")
    assert json.loads((album / "album.json").read_text())["k_bits"] == 64
    assert command("album", photos, "--clip-path", clip_file, "--resolution", 64) == 2
    assert "was made with 32" in capsys.readouterr().err
    assert command("search", album / "index", "--model", album / "model", "--text", "a dog", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 13


def test_what_cannot_be_an_album_is_one_line(tmp_path, capsys, monkeypatch):
    photos = tmp_path / "photos"
    draw(photos / "a.png", 0)
    (tmp_path / "others.album").mkdir()
    (tmp_path / "others.album/file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("open_clip.create_model", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    for arguments, message in [
        (["sync", photos], "no album is there; make one with `math-hash album"),
        (["sync", photos, "--every", "0"], "expected more than 0 seconds"),
        (["album", photos, "others.album"], "is there already and is no album"),
        (["album", tmp_path / "none"], "no such folder"),
        (["album", photos, "--bits", "32"], "expected 64 to 512"),
        (["album", photos, "--encoder", "demo", "--clip-path", "x"], "give one of them"),
        (["album", photos, "--model", "run", "--bits", "64"], "leave out bits"),
        (["album", photos], "cannot be downloaded (no network)"),
        (["album", photos], "ViT-B-32.pt at ./cache/ViT-B-32.pt"),
    ]:
        assert command(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "photos.album").exists()


def test_weights_that_are_nowhere_are_one_line_at_once(tmp_path, capfd, monkeypatch):
    draw(tmp_path / "photos/a.png", 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    started = time.monotonic()
    assert command("album", "photos") == 2
    assert time.monotonic() - started < 10  # the hub's library alone tries for a minute
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "https://openaipublic.azureedge.net/clip/models/" in error
    assert error.endswith("/ViT-B-32.pt at ./cache/ViT-B-32.pt\n")


def test_a_folder_without_pictures_is_said_before_weights_are_looked_for(tmp_path, capsys, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("open_clip.create_model", None)
    for model in ([], ["--model", "RUN"]):
        assert command("album", "photos", *model) == 2
        assert "photos: holds no pictures" in capsys.readouterr().err
        assert not Path("photos.album").exists()
