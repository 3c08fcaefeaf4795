"""NUS-WIDE, COCO and IAPR TC-12: miniatures of the official files, and the real label sets turned back into them."""

import json
import os

import numpy as np
import pytest
from conftest import load_tool, shared
from PIL import Image

from math_hash.data import read_dataset
from math_hash.data.building.lists import read_lines

nuswide, coco, iapr = (load_tool(f"make_{name}") for name in ("nuswide", "coco", "iaprtc12"))
FAST = ("--check", "fast")


def put_picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade % 256, 90, 30)).save(path)


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


def test_nuswide_files_that_do_not_belong_together(nus, tmp_path, run):
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


def test_the_real_nuswide_labels_at_full_size(tmp_path, run):
    source = shared("nuswide-labels")
    named = [line.split(",") for line in read_lines(source / "labels_annotation.txt")]
    assert len(named) == 190421
    column = {name: place for place, name in enumerate(nuswide.LABELS)}
    labels = np.zeros((len(named) + 2, 21), int)
    for row, names in enumerate(named, start=1):
        labels[row, [column[name] for name in names]] = 1
    labels[-1] = 1  # with labels, but no known tag: row 0 has neither, the last one falls out of the protocol
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


def write_coco(folder, pictures, year):
    """`pictures`: part -> [(number, names of its labels, captions)]."""
    (folder / "annotations").mkdir(parents=True)
    numbers = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83)]
    numbers += [*range(84, 91)]  # the official category numbers have gaps
    category = dict(zip(coco.LABELS, numbers, strict=True))
    for part, rows in pictures.items():
        prefix = f"COCO_{part}{year}_" if year == 2014 else ""
        images = [{"id": number, "file_name": f"{prefix}{number:012d}.jpg"} for number, _, _ in rows]
        instances, captions = [], []
        for number, names, texts in rows:
            for name in names:
                item = {"id": len(instances), "image_id": number, "category_id": category[name]}
                instances += [item, {**item, "id": len(instances) + 1}]  # several objects of one kind
            captions += [{"id": 9 * number + at, "image_id": number, "caption": text} for at, text in enumerate(texts)]
        kinds = [{"id": number, "name": name} for name, number in category.items()]
        content = {"info": {}, "images": images, "annotations": instances, "categories": kinds}
        (folder / f"annotations/instances_{part}{year}.json").write_text(json.dumps(content))
        content = {"images": images, "annotations": captions[::-1]}
        (folder / f"annotations/captions_{part}{year}.json").write_text(json.dumps(content))
        yield from (f"{part}{year}/{image['file_name']}" for image in images)


MINI_COCO = {
    "train": [(581, ["dog", "tv"], ["A dog. ", "two\ndogs", "a TV"]), (9, ["pizza"], ["cheese"]), (12, [], ["none"])],
    "val": [(42, ["person", "dining table"], ["people eat", "a meal"])],
}


@pytest.mark.parametrize("year", [2014, 2017])
def test_coco_joins_both_parts_in_the_order_of_the_picture_numbers(tmp_path, run, year):
    for name in write_coco(tmp_path / "raw", MINI_COCO, year):
        put_picture(tmp_path / "raw" / name)
    options = ["--raw", tmp_path / "raw", "--allow-partial"]
    assert run(coco, *options, "--output", tmp_path / "out")[0] == 0
    data = read_dataset(tmp_path / "out")
    prefix = "COCO_{}2014_" if year == 2014 else ""
    assert data.images == [
        f"{part}{year}/{prefix.format(part)}{number:012d}.jpg"
        for part, number in (("train", 9), ("val", 42), ("train", 581))
    ]
    assert data.captions == ["cheese", "people eat", "A dog."]
    assert data.manifest["captions"] == [["cheese"], ["people eat", "a meal"], ["A dog.", "two dogs", "a TV"]]
    assert data.label_texts == ["pizza", "person dining table", "dog tv"]
    assert all(data.image_path(row).is_file() for row in range(3))
    drawn = set()
    for seed in range(8):
        random = ["--caption", "random", "--seed", str(seed), "--output", tmp_path / f"random{seed}"]
        assert run(coco, *options, *random)[0] == 0
        drawn.add(read_dataset(tmp_path / f"random{seed}").captions[2])
    assert drawn == {"A dog.", "two dogs", "a TV"}


def test_coco_files_that_are_not_what_they_should_be(tmp_path, run):
    list(write_coco(tmp_path / "raw", MINI_COCO, 2017))
    options = ["--raw", tmp_path / "raw", "--output", tmp_path / "out"]
    assert "holds none of the 3 listed pictures" in run(coco, *options)[1]
    path = tmp_path / "raw/annotations/instances_val2017.json"
    before = path.read_text()
    path.write_text(before.replace('"category_id": 1}', '"category_id": 99}'))
    assert "of picture 42 and category 99" in run(coco, *options)[1]
    path.write_text(before[:-5])
    assert "cannot be read as JSON" in run(coco, *options)[1]
    path.write_text("{}")
    assert "has no images, annotations, categories" in run(coco, *options)[1]
    path.unlink()
    code, printed = run(coco, *options)
    assert code == 2
    assert "annotations/instances_val2017.json not there (looked for" in printed
    assert not (tmp_path / "out").exists()


def test_the_real_coco_labels(tmp_path, run):
    """As official files of 2017, the last 5,000 rows as the validation part, and as lists; both give the same rows."""
    named = [
        [name for name in line.split(",") if name]
        for line in read_lines(shared("coco-labels") / "labels_annotation.txt")
    ]
    official = [[{"TV": "tv"}.get(name, name) for name in names] for names in named]
    texts = [[f"picture {row}", f"again {row}"] for row in range(len(named))]
    rows = list(zip(range(len(named)), official, texts, strict=True))
    images = list(write_coco(tmp_path / "raw", {"train": rows[:-5000], "val": rows[-5000:]}, 2017))
    (tmp_path / "raw/val2017").mkdir()
    (tmp_path / "raw/train2017").mkdir()
    stub = tmp_path / "stub"
    stub.write_bytes(b"x")
    for name in images:
        os.symlink(stub, f"{tmp_path}/raw/{name}")
    code, printed = run(coco, "--raw", tmp_path / "raw", *FAST, "--output", tmp_path / "out")
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    kept = [row for row, names in enumerate(official) if names]
    assert (len(data), data.protocol) == (122218, "coco")
    assert data.images == [images[row] for row in kept]
    assert data.label_texts == [" ".join(official[row]) for row in kept]
    assert data.manifest["captions"] == [texts[row] for row in kept]
    column = {name: place for place, name in enumerate(coco.LABELS)}
    labels = np.zeros((len(named), 80), np.uint8)
    for row, names in enumerate(official):
        labels[row, [column[name] for name in names]] = 1
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "all_imgs.txt").write_text("".join(f"{name}\n" for name in images))
    (lists / "all_txts.txt").write_text("".join(";".join(row) + "\n" for row in texts))
    (lists / "all_labels.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in labels.tolist()))
    (lists / "labels_annotation.txt").write_text("".join(",".join(names) + "\n" for names in named))
    options = ["--lists", lists, "--images", tmp_path / "raw", *FAST, "--output", tmp_path / "again"]
    code, printed = run(coco, *options)
    assert code == 0, printed
    again = read_dataset(tmp_path / "again")
    assert again.images == data.images
    assert (again.labels == data.labels).all()
    assert again.texts == data.texts


def write_iapr(folder):
    """Three pictures: annotations in Windows-1252 with CRLF, one of them absent; labels of regions; the label names."""
    place = folder / "iaprtc12/annotations_complete_eng"
    texts = {1000: ("01", "a café’s terrace; two\r\n people"), 25: ("00", "a yellow building")}
    for number, (part, text) in texts.items():
        (place / part).mkdir(parents=True)
        content = f"<DOC>\r\n<DOCNO>annotations/{part}/{number}.eng</DOCNO>\r\n<TITLE>Not this</TITLE>\r\n"
        content += f"<DESCRIPTION>{text};</DESCRIPTION>\r\n<NOTES></NOTES>\r\n<IMAGE>images/{part}/{number}.jpg</IMAGE>"
        (place / part / f"{number}.eng").write_bytes(f"{content}\r\n</DOC>\r\n".encode("cp1252"))
    for name in ("01/1000", "00/25", "00/31"):
        put_picture(folder / f"iaprtc12/images/{name}.jpg")
    segmented = folder / "saiaprtc12ok/benchmark/saiapr_tc-12"
    for part, lines in {"00": "25\t1\t7\n25\t2\t9\n25\t3\t7\n31 1 9\n\n", "01": "1000\t1\t120\r\n"}.items():
        (segmented / part).mkdir(parents=True)
        (segmented / part / "labels.txt").write_text(lines)
    (segmented / "wlist.txt").write_text("7\tbuilding\n8\tnever-used\n9\tsky-blue\n120\tgroup of persons\n")
    return segmented


def test_iaprtc12_joins_descriptions_and_region_labels(tmp_path, run):
    write_iapr(tmp_path / "raw")
    options = ["--raw", tmp_path / "raw", "--allow-partial", "--output", tmp_path / "out"]
    code, printed = run(iapr, *options)
    assert code == 0, printed
    assert "expected 20000 rows and 255 labels, found 3 and 3" in printed
    data = read_dataset(tmp_path / "out")
    assert data.images == ["images/00/25.jpg", "images/00/31.jpg", "images/01/1000.jpg"]
    assert data.captions == ["a yellow building;", "", "a café’s terrace; two people;"]
    assert data.label_names == ["building", "group of persons", "sky-blue"]
    assert data.labels.tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert data.manifest["summary"]["rows_without_text"] == 1


def test_iaprtc12_bad_files(tmp_path, run):
    segmented = write_iapr(tmp_path / "raw")
    options = ["--raw", tmp_path / "raw", "--allow-partial", "--output", tmp_path / "out"]
    labels = segmented / "00/labels.txt"
    labels.write_text("25 1 7\n25 1 8000\n")
    assert "labels.txt, line 2: unknown label 8000" in run(iapr, *options)[1]
    labels.write_text("25 sky\n")
    assert "line 1: expected the numbers of a picture" in run(iapr, *options)[1]
    (segmented / "wlist.txt").unlink()
    code, printed = run(iapr, *options)
    assert code == 2
    assert "wlist.txt not there" in printed
    assert not (tmp_path / "out").exists()


def test_lists_name_their_own_labels_where_the_protocol_does_not(tmp_path, run):
    """The columns of all_labels.txt may come in any order; each is given the name that it agrees with."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for row in range(4):
        put_picture(tmp_path / f"images/{row}.jpg", row)
    (lists / "all_imgs.txt").write_text("images/0.jpg\nimages/1.jpg\nimages/2.jpg\nimages/3.jpg\n")
    (lists / "all_txts.txt").write_text("a; b\n\nc;\nd\n")
    (lists / "all_labels.txt").write_text("0 1 1\n1 0 0\n0 0 1\n0 0 0\n")
    (lists / "labels_annotation.txt").write_text("ape,cat\nbee\ncat\n\n")
    options = ["--lists", lists, "--images", tmp_path, "--allow-partial", "--output", tmp_path / "out"]
    code, printed = run(iapr, *options)
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    assert data.label_names == ["bee", "ape", "cat"]
    assert data.label_texts == ["ape cat", "bee", "cat"]
    assert data.captions == ["a; b", "", "c"]
    (lists / "labels_annotation.txt").write_text("ape,cat\nbee\ncat,bee\n\n")
    assert "names other labels" in run(iapr, *options)[1]
