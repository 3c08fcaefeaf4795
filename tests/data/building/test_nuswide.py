"""NUS-WIDE: a miniature of the official files, and official files made from the real labels."""

import os

import numpy as np
import pytest
from conftest import shared
from miniatures import FAST, put_picture

from math_hash.data import read_dataset
from math_hash.data.building import nuswide
from math_hash.data.text_files import read_lines


def write_nuswide(folder, images, tags, labels, line_end="\r\n"):
    """The official files: backslashes, CRLF, all 81 concepts' files side by side, tags after the Flickr number."""
    for name in ("ImageList", "Groundtruth/AllLabels", "NUS_WID_Tags"):
        (folder / name).mkdir(parents=True)
    (folder / nuswide.LIST).write_bytes("".join(f"{name}{line_end}" for name in images).replace("/", "\\").encode())
    numbers = [name.split("_")[-1].removesuffix(".jpg") for name in images]
    lines = [
        f"{number}      {' '.join(row)} {line_end}".encode("latin-1" if place % 2 else "utf-8")
        for place, (number, row) in enumerate(zip(numbers, tags, strict=True))
    ]
    (folder / nuswide.TAGS).write_bytes(b"".join(lines))
    for column, name in enumerate([*nuswide.LABELS, "airport", "zebra"]):
        values = labels[:, column] if column < 21 else np.ones(len(labels), int)
        text = "".join(f"{value}{line_end}" for value in values)
        (folder / f"Groundtruth/AllLabels/Labels_{name}.txt").write_text(text)
    (folder / "Groundtruth/TrainTestLabels").mkdir()


@pytest.fixture
def nus(tmp_path):
    rng = np.random.default_rng(3)
    images = [f"{'actor' if row % 2 else 'zebra'}/{row:04d}_{5000 - row}.jpg" for row in range(40)]
    tags = [[["sky", "été", "unlisted", "sea"][place] for place in np.flatnonzero(rng.random(4) < 0.4)] for _ in images]
    labels = (rng.random((40, 21)) < 0.06).astype(int)
    write_nuswide(tmp_path / "raw", images, tags, labels)
    (tmp_path / "raw" / nuswide.TAG_LIST).write_bytes("sky\r\nété\r\nsea\r\n\r\n".encode())
    for row, name in enumerate(images):
        put_picture(tmp_path / "raw/Flickr" / name, row)
    return tmp_path / "raw", images, tags, labels


@pytest.mark.parametrize("protocol", ["nuswide", "nuswide-195834"])
def test_nuswide_keeps_the_rows_of_the_protocol(nus, tmp_path, run, protocol):
    raw, images, tags, labels = nus
    options = ["--raw", raw, "--protocol", protocol, "--allow-partial", "--output", tmp_path / "out"]
    code, printed = run(nuswide, *options)
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    known = [[tag for tag in row if tag != "unlisted"] for row in tags]
    kept = [row for row in range(40) if labels[row].any() and (known[row] or protocol != "nuswide")]
    assert data.images == [images[row] for row in kept]
    assert data.captions == [" ".join(known[row]) for row in kept]
    assert (data.labels == labels[kept]).all()
    assert data.label_names == sorted(data.label_names)
    assert all(data.image_path(row).is_file() for row in range(len(data)))
    assert data.protocol == f"{protocol} (partial)"


def test_nuswide_files_that_do_not_belong_together_are_refused(nus, tmp_path, run):
    raw = nus[0]
    options = ["--raw", raw, "--allow-partial", "--output", tmp_path / "out"]
    labels = raw / "Groundtruth/AllLabels/Labels_sky.txt"
    before = labels.read_text()
    labels.write_text("\n".join(before.split()[:-1]))
    code, printed = run(nuswide, *options)
    assert code == 2
    assert "Imagelist.txt has 40 lines" in printed
    assert "Labels_sky.txt has 39" in printed
    labels.write_text(before.replace("0", "-1130179", 1))
    assert "'-1130179' is not a label" in run(nuswide, *options)[1]
    labels.write_text(before)
    tags = raw / nuswide.TAGS
    tags.write_text(tags.read_text("latin-1").replace("5000 ", "7 ", 1))
    assert "line 1: tags of 7, but" in run(nuswide, *options)[1]
    assert "looked for ImageList/Imagelist.txt" in run(nuswide, "--raw", raw / "ImageList")[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_real_nuswide_labels_at_full_size(tmp_path, run):
    source = shared("nuswide-labels")
    named = [line.split(",") for line in read_lines(source / "labels_annotation.txt")]
    assert len(named) == 190421
    column = {name: place for place, name in enumerate(nuswide.LABELS)}
    labels = np.zeros((len(named) + 2, 21), int)
    for row, names in enumerate(named, start=1):
        labels[row, [column[name] for name in names]] = 1
    labels[-1] = 1  # labels but no known tag: row 0 has neither, and the last row is not in the protocol
    images = [f"{row % 700:03d}/{row % 500:04d}_{row}.jpg" for row in range(len(labels))]
    tags = [[f"tag{row * step % 1000}" for step in range(1, 3 + row % 12)] for row in range(len(labels))]
    tags[-1] = ["unlisted"]
    write_nuswide(tmp_path / "raw", images, tags, labels, "\n")
    (tmp_path / "raw" / nuswide.TAG_LIST).write_text("".join(f"tag{number}\n" for number in range(1000)))
    for part in range(700):
        (tmp_path / f"raw/Flickr/{part:03d}").mkdir(parents=True)
    stub = tmp_path / "stub"
    stub.write_bytes(b"x")
    for name in images:
        os.symlink(stub, f"{tmp_path}/raw/Flickr/{name}")
    code, printed = run(nuswide, "--raw", tmp_path / "raw", *FAST, "--output", tmp_path / "out")
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    assert data.protocol == "nuswide"
    assert data.images == images[1:-1]
    assert data.captions == [" ".join(row) for row in tags[1:-1]]
    assert data.label_texts == [" ".join(row) for row in named]
    assert data.manifest["summary"]["most_frequent_labels"][0] == ["sky", 72659]
