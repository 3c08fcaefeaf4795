"""MIRFlickr-25K: a miniature of the official files, lists, and official files made from the real lists."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import shared
from miniatures import FAST
from PIL import Image

from math_hash.data import read_dataset
from math_hash.data.building import flickr25k
from math_hash.data.building.lists import read_lists
from math_hash.data.text_files import read_lines


def write_raw(folder, tags, labels, dirty=True):
    """The official layout: pictures, tag files, annotation files with their _r1 versions.

    `dirty`: small pictures, tag files with CRLF, every other one in Latin-1; otherwise stubs, and UTF-8 throughout.
    """
    (folder / "mirflickr/meta/tags").mkdir(parents=True)
    (folder / "annotations_v080").mkdir()
    for number, row in enumerate(tags, start=1):
        encoding = "latin-1" if dirty and number % 2 == 0 else "utf-8"
        text = ("\r\n" if dirty else "\n").join([*row, ""])
        (folder / f"mirflickr/meta/tags/tags{number}.txt").write_bytes(text.encode(encoding))
        path = folder / f"mirflickr/im{number}.jpg"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path) if dirty else path.write_bytes(b"stub")
    for column, name in enumerate(flickr25k.LABELS):
        numbers = np.flatnonzero(labels[:, column]) + 1
        (folder / f"annotations_v080/{name}.txt").write_text("".join(f"{number}\n" for number in numbers))
        (folder / f"annotations_v080/{name}_r1.txt").write_text("1\n")
    (folder / "annotations_v080/README.txt").write_text("read me")


@pytest.fixture
def raw(tmp_path):
    """40 instances: `often` occurs 20 times, `café` 21 times, `seldom` 19 times; instances 39 and 40 have no label."""
    tags = [[] for _ in range(40)]
    for row in range(20):
        tags[row].append("often")
    for row in range(10, 31):
        tags[row].append("café")
    for row in range(19):
        tags[row].insert(0, "seldom")
    labels = np.zeros((40, 24), np.uint8)
    labels[np.arange(38), np.arange(38) % 24] = 1
    write_raw(tmp_path / "raw", tags, labels)
    return tmp_path / "raw", tags, labels


def test_raw_files_are_reduced_to_the_protocol(raw, tmp_path, run):
    folder, tags, labels = raw
    code, printed = run(flickr25k, "--raw", folder, "--output", tmp_path / "out", "--allow-partial")
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    kept = [row for row in range(40) if {"often", "café"} & set(tags[row]) and labels[row].any()]
    assert data.images == [f"mirflickr/im{row + 1}.jpg" for row in kept]
    assert data.captions == [" ".join(tag for tag in tags[row] if tag != "seldom") for row in kept]
    assert (data.labels == labels[kept]).all()
    assert data.manifest["label_names"] == flickr25k.LABELS == sorted(flickr25k.LABELS)
    assert data.image_path(0).is_file()


def test_the_larger_protocol_keeps_every_instance_with_a_label(raw, tmp_path, run):
    folder = raw[0]
    options = ["--protocol", "flickr25k-24581", "--allow-partial", "--output", tmp_path / "out"]
    assert run(flickr25k, "--raw", folder, *options)[0] == 0
    data = read_dataset(tmp_path / "out")
    assert len(data) == 38
    assert data.captions[35] == ""
    assert data.captions[0] == "seldom often"


def test_a_tag_list_replaces_the_threshold(raw, tmp_path, run):
    (tmp_path / "tags.txt").write_text("seldom\n")
    options = ["--tag-list", tmp_path / "tags.txt", "--allow-partial", "--output", tmp_path / "out"]
    assert run(flickr25k, "--raw", raw[0], *options)[0] == 0
    assert set(read_dataset(tmp_path / "out").captions) == {"seldom"}


def test_deviations_from_the_protocol_are_errors(raw, tmp_path, run):
    folder, out = raw[0], tmp_path / "out"
    code, printed = run(flickr25k, "--raw", folder, "--output", out)
    assert code == 2
    assert "expected 25000 tag files, found 40; missing are tags41.txt" in printed
    assert run(flickr25k, "--raw", tmp_path, "--output", out)[0] == 2
    (folder / "annotations_v080/dog.txt").unlink()
    code, printed = run(flickr25k, "--raw", folder, "--output", out, "--allow-partial")
    assert code == 2
    assert "no folder with the 24 annotation files" in printed
    assert not out.exists()


def write_lists(folder, images, tags, labels):
    folder.mkdir()
    (folder / "all_imgs.txt").write_text("\n".join(images) + "\n")
    (folder / "all_tags.txt").write_text("\n".join(map(",".join, tags)) + "\n")
    (folder / "all_labels.txt").write_text("\n".join(" ".join(map(str, row)) for row in labels) + "\n")
    named = [",".join(np.array(flickr25k.LABELS)[row > 0]) for row in labels]
    (folder / "labels_annotation.txt").write_text("\n".join(named) + "\n")


@pytest.fixture
def lists(raw, tmp_path):
    _, tags, labels = raw
    write_lists(tmp_path / "lists", [f"mirflickr/im{n}.jpg" for n in range(1, 39)], tags[:38], labels[:38])
    return tmp_path / "lists"


@pytest.mark.parametrize("images", ["raw", "raw/mirflickr"])
def test_lists_find_their_pictures(lists, tmp_path, run, images):
    options = ["--images", tmp_path / images, "--output", tmp_path / "out", "--allow-partial"]
    assert run(flickr25k, "--lists", lists, *options)[0] == 0
    data = read_dataset(tmp_path / "out")
    assert len(data) == 38
    assert all(data.image_path(row).is_file() for row in range(38))


def test_missing_and_broken_pictures_are_reported_and_left_out_only_when_allowed(lists, tmp_path, run):
    options = ["--lists", lists, "--images", tmp_path / "raw", "--output", tmp_path / "out"]
    (tmp_path / "raw/mirflickr/im3.jpg").unlink()
    (tmp_path / "raw/mirflickr/im5.jpg").write_bytes(b"<html>")
    code, printed = run(flickr25k, *options)
    assert code == 2
    assert "expected 20015 rows and 24 labels, found 36 and 24, with 2 pictures missing or unreadable" in printed
    assert "im3.jpg: no such picture" in printed
    assert "im5.jpg: is a web page, not a picture" in printed
    assert not (tmp_path / "out").exists()
    assert run(flickr25k, *options, "--allow-partial")[0] == 0
    assert len(read_dataset(tmp_path / "out")) == 36
    assert run(flickr25k, *options, "--allow-partial", "--check", "fast")[0] == 0
    assert len(read_dataset(tmp_path / "out")) == 37


def test_lists_that_contradict_each_other_are_refused(lists, tmp_path, run):
    options = ["--lists", lists, "--images", tmp_path / "raw", "--output", tmp_path / "out"]
    for name, change, message in (
        ("all_tags.txt", lambda lines: lines[1:], "all_imgs.txt has 38 lines, .*all_tags.txt has 37"),
        ("labels_annotation.txt", lambda lines: ["dragon", *lines[1:]], "line 1: unknown label 'dragon'"),
        ("labels_annotation.txt", lambda lines: ["dog", *lines[1:]], "line 1: names other labels"),
        ("all_labels.txt", lambda lines: ["1 2 3", *lines[1:]], "line 1: expected 24 values of 0 or 1"),
    ):
        before = (lists / name).read_text()
        (lists / name).write_text("\n".join(change(before.splitlines())) + "\n")
        code, printed = run(flickr25k, *options)
        assert code == 2
        assert re.search(message, printed), printed
        (lists / name).write_text(before)
    (lists / "all_imgs.txt").unlink()
    assert "all_imgs.txt not there (looked for" in run(flickr25k, *options)[1]


@pytest.mark.slow
def test_the_real_lists_survive_the_official_format(tmp_path, run):
    source = shared("mirflickr25k-lists")
    images, tags, labels, _ = read_lists(source, flickr25k.LABELS)
    numbers = [int(Path(name).stem[2:]) for name in images]
    assert len(images) == 20015
    place = {number: row for row, number in enumerate(numbers)}
    all_tags = [tags[place[n]] if n in place else ["nothing"] for n in range(1, 25001)]
    all_labels = np.array([labels[place[n]] if n in place else np.zeros(24, int) for n in range(1, 25001)])
    write_raw(tmp_path / "raw", all_tags, all_labels, dirty=False)
    vocabulary = sorted(Counter(tag for row in tags for tag in row))
    (tmp_path / "tags.txt").write_text("\n".join(vocabulary) + "\n")
    options = ["--raw", tmp_path / "raw", "--tag-list", tmp_path / "tags.txt", *FAST]
    code, printed = run(flickr25k, *options, "--output", tmp_path / "out")
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    assert data.protocol == "flickr25k"
    assert data.images == images
    assert data.captions == [" ".join(row) for row in tags]
    assert (data.labels == labels).all()
    assert data.label_texts == [line.replace(",", " ") for line in read_lines(source / "labels_annotation.txt")]
