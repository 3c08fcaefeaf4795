"""MS COCO: a miniature of the official files, and official files made from the real labels."""

import json
import os

import numpy as np
import pytest
from conftest import shared
from miniatures import FAST, put_picture

from math_hash.data import read_dataset
from math_hash.data.building import coco
from math_hash.data.text_files import read_lines


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


def test_damaged_coco_files_are_refused(tmp_path, run):
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


@pytest.mark.slow
def test_the_real_coco_labels_survive_the_official_format(tmp_path, run):
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
