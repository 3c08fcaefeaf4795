"""Pictures are served only from the collection's folder."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from retrieval.server.fixtures import TOKEN, png

from math_hash.data.images import open_image
from math_hash.retrieval import open_index, thumbnail

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.retrieval.server.app import make_app

pytestmark = pytest.mark.server


def test_pictures_come_only_from_the_root(model, tiny_dataset, tmp_path, start_server):
    root = tmp_path / "root"
    shutil.copytree(tiny_dataset, root)
    (tmp_path / "secret.png").write_bytes(png())
    os.symlink(tmp_path / "secret.png", root / "link.png")
    with open_index(tmp_path / "i", 16, model.fingerprint) as index:
        names = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "0.png", "", "x\0y", "manifest.json"]
        metadata = [{"image": name} for name in names]
        index.add(range(len(names)), np.zeros((len(names), 2), np.uint8), metadata)
        client = start_server(make_app(index, model, root))
        for row, name in enumerate(names):
            status = client.get("/image", params={"id": str(row)}).status_code
            assert status == (200 if name == "0.png" else 404), name
        assert client.post("/rows", data={"id": "a", "text": "b"}, headers=TOKEN).status_code == 403


def test_pictures_are_made_once_and_not_sent_again(model, tmp_path, start_server, monkeypatch):
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 256, (900, 1200, 3), np.uint8))
    photograph.save(tmp_path / "a.jpg")
    with open_index(tmp_path / "i", 16, model.fingerprint) as index:
        index.add(["a"], np.zeros((1, 2), np.uint8), [{"image": "a.jpg"}])
        client = start_server(make_app(index, model, tmp_path))
        made = []
        decode = thumbnail.open_image
        monkeypatch.setattr(
            thumbnail, "open_image", lambda *given, **options: made.append(given) or decode(*given, **options)
        )
        first = client.get("/image", params={"id": "a"})
        assert Image.open(io.BytesIO(first.content)).size == (320, 240)
        assert client.get("/image", params={"id": "a"}).content == first.content
        known = {"If-None-Match": first.headers["etag"]}
        again = client.get("/image", params={"id": "a"}, headers=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert "max-age" in again.headers["cache-control"]
        assert len(made) == 1
        file = client.get("/image/file", params={"id": "a"})
        assert file.content == (tmp_path / "a.jpg").read_bytes()
        assert (file.headers["content-type"], file.headers["content-disposition"]) == (
            "image/jpeg", "attachment; filename*=UTF-8''a.jpg",
        )  # fmt: skip
        photograph.rotate(90, expand=True).save(tmp_path / "a.jpg")
        changed = client.get("/image", params={"id": "a"}, headers=known)
        assert Image.open(io.BytesIO(changed.content)).size == (240, 320)


def test_thumbnails_are_kept_within_a_limit(tmp_path):
    cache = thumbnail.ThumbnailCache(max_bytes=2000)
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(png())
        cache.thumbnail(tmp_path / f"{number}.png", 40, str(number))
        assert 0 < cache.size <= 2000


def test_a_drafted_thumbnail_looks_like_the_picture(tmp_path):
    """Smooth colors: decoding at half the size changes them by less than a hundredth of the range."""
    x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    whole = open_image(tmp_path / "a.jpg")
    assert open_image(tmp_path / "a.jpg", side=320).size == (600, 800)  # halved: a quarter would leave 300 pixels
    whole.thumbnail((320, 320))
    drafted = Image.open(io.BytesIO(thumbnail.thumbnail(tmp_path, {"image": "a.jpg"}, 320)))
    assert drafted.size == whole.size == (240, 320)
    assert np.abs(np.asarray(drafted, float) - np.asarray(whole, float)).mean() < 2.5
