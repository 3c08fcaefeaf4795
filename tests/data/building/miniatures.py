"""Small downloads and collections for the tests of building datasets."""

import io
import json
import tarfile

from PIL import Image

FAST = ("--check", "fast")


def put_picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade % 256, 90, 30)).save(path)


def picture_bytes(shade, form="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, 40, 90)).convert(mode).save(buffer, form)
    return buffer.getvalue()


def write_pictures(folder):
    """Six PNG files, and a JPEG in a subfolder with a non-ASCII letter in its name."""
    (folder / "sub").mkdir(parents=True)
    for row in range(6):
        (folder / f"{row}.png").write_bytes(picture_bytes(row * 20))
    (folder / "sub/é 6.jpg").write_bytes(picture_bytes(200, "JPEG"))
    return folder


def rejected_rows(folder):
    """The lines of `rejected.tsv` below its heading: [which, reason]."""
    return [line.split("\t") for line in (folder / "rejected.tsv").read_text().splitlines()[1:]]


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shards(folder):
    """WebDataset tars of three usable samples and one without a picture, and a file that is not a tar."""
    folder.mkdir()
    with tarfile.open(folder / "train-000.tar", "w") as archive:
        add(archive, "a/0001.jpg", picture_bytes(10, "JPEG"))
        add(archive, "a/0001.txt", b"a dog\n")
        add(archive, "a/0001.cls", b"dog")
        add(archive, "a/0002.json", json.dumps({"text": "cats", "labels": ["cat", "two"]}).encode())
        add(archive, "a/0002.seg.png", b"not a picture of its own name")
        add(archive, "a/0002.png", picture_bytes(20))
    with tarfile.open(folder / "train-001.tar", "w") as archive:
        add(archive, "0001.txt", b"no picture")
        add(archive, "0002.webp", picture_bytes(30, "WEBP"))
    (folder / "train-002.tar").write_bytes(b"not a tar file" * 100)
    return folder
