"""Folders, tars and saved datasets as a user's own collection: unusable entries are listed, never fatal."""

import numpy as np
import pytest
from miniatures import picture_bytes, rejected_rows, write_pictures, write_shards
from PIL import Image

from math_hash.data import inspect_images, open_image, read_dataset
from math_hash.data.building import custom


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures")


def test_a_folder_of_pictures(pictures, tmp_path, run):
    (pictures / "0.txt").write_bytes("caf\xe9\r\n\r\nsecond text\r\n".encode("latin-1"))
    (pictures / ".hidden.png").write_bytes(b"")
    code, printed = run(custom, pictures, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.images == [*(f"{row}.png" for row in range(6)), "sub/é 6.jpg"]
    assert data.texts[:2] == [["café", "second text"], []]
    assert data.labels.shape == (7, 0)
    assert "no row has a label" in printed


def test_only_a_dataset_is_ever_replaced(pictures, tmp_path, run):
    for output in (pictures, pictures / "sub", tmp_path):
        code, printed = run(custom, pictures, "--output", output)
        assert code == 2
        assert "would be replaced; choose another --output" in printed
    assert run(custom, pictures, "--output", tmp_path / "mine")[0] == 0
    (tmp_path / "mine/own").mkdir()
    (tmp_path / "mine/own/a.jpg").write_bytes(picture_bytes(1, "JPEG"))
    code, printed = run(custom, tmp_path / "mine/own", "--output", tmp_path / "mine")
    assert code == 2
    assert "holds the pictures" in printed
    assert (tmp_path / "mine/own/a.jpg").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "pictures"]


def test_class_folders_become_labels(tmp_path, run):
    for name in ("dog/1.jpg", "dog/deep/2.jpg", "cat/1.jpg"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(picture_bytes(9, "JPEG"))
    code, printed = run(custom, tmp_path / "raw", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert (data.images, data.label_texts) == (["cat/1.jpg", "dog/1.jpg", "dog/deep/2.jpg"], ["cat", "dog", "dog"])
    assert "duplicates      2 pictures, such as dog/1.jpg = cat/1.jpg" in printed
    assert "no row has a text" in printed


def test_unusual_pictures_look_as_in_a_viewer_or_are_listed(tmp_path, run):
    raw = tmp_path / "raw"
    raw.mkdir()
    frames = [Image.new("P", (6, 4), color) for color in (0, 1)]
    for frame in frames:
        frame.putpalette([250, 10, 10, 10, 250, 10])
    frames[0].save(raw / "animated.gif", save_all=True, append_images=frames[1:])
    gray = np.full((4, 6), 200 * 256, np.uint16)
    Image.fromarray(gray).save(raw / "gray16.png")
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(raw / "print.jpg")
    clear = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    clear.save(raw / "clear.png")
    palette = Image.new("P", (6, 4), 3)
    palette.putpalette([0, 0, 0] * 3 + [10, 200, 30])
    palette.save(raw / "palette.png")
    palette.save(raw / "palette-clear.png", transparency=3)
    turned = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 8
    turned.save(raw / "turned.jpg", exif=exif)
    (raw / "page.jpg").write_text("<!DOCTYPE html><html>404</html>")
    (raw / "empty.png").write_bytes(b"")
    (raw / "cut.jpg").write_bytes(picture_bytes(3, "JPEG")[:-60])
    (raw / "noise.webp").write_bytes(bytes(range(256)))
    code, printed = run(custom, raw, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    colors = {name: open_image(data.image_path(row)) for row, name in enumerate(data.images)}
    assert colors.pop("turned.jpg").size == (4, 6)
    expected = {
        "animated.gif": (250, 10, 10),
        "gray16.png": (200, 200, 200),
        "print.jpg": (255, 0, 0),
        "clear.png": (255, 255, 255),
        "palette.png": (10, 200, 30),
        "palette-clear.png": (255, 255, 255),
    }
    for name, image in colors.items():
        assert np.abs(np.array(image.getpixel((0, 0))) - expected.pop(name)).max() <= 3, name
    assert not expected
    reasons = dict(rejected_rows(tmp_path / "mine"))
    assert sorted(reasons) == ["cut.jpg", "empty.png", "noise.webp", "page.jpg"]
    assert "is a web page, not a picture" in reasons["page.jpg"]
    assert "is empty" in reasons["empty.png"]


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards")


def test_webdataset_pictures_stay_in_their_tars(shards, tmp_path, run):
    code, printed = run(custom, shards, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.images == ["train-000.tar/a/0001.jpg", "train-000.tar/a/0002.png", "train-001.tar/0002.webp"]
    assert data.captions == ["a dog", "cats", ""]
    assert data.label_texts == ["dog", "cat two", ""]
    for row, shade in enumerate((10, 20, 30)):
        assert abs(open_image(data.image_path(row)).getpixel((0, 0))[0] - shade) < 12
    assert [reason.split(" (")[0] for _, reason in rejected_rows(tmp_path / "mine")] == [
        "has no picture",
        "cannot be read as an uncompressed tar file",
    ]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "caption.mat", "index.mat", "label.mat", "label_t.mat", "manifest.json", "members.npy", "rejected.tsv",
    ]  # fmt: skip
    (shards / "train-000.tar").unlink()
    assert sorted(inspect_images([data.image_path(row) for row in range(3)]).bad) == [0, 1]


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_hugging_face_dataset(pictures, tmp_path, run, splits):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "text": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"])),
        }
    )
    rows = {
        "image": [{"bytes": picture_bytes(50 + row), "path": None} for row in range(3)] + [None],
        "text": ["one", None, "three", "four"],
        "labels": [[0], [1, 0], [], [1]],
    }
    saved = datasets.Dataset.from_dict(rows, features=features)
    saved = datasets.DatasetDict({"train": saved, "test": saved.select([2])}) if splits else saved
    saved.save_to_disk(tmp_path / "saved")
    code, printed = run(custom, tmp_path / "saved", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.captions == ["one", "", "three"]  # the second split repeats a picture
    assert data.label_texts == ["cat", "cat dog", ""]
    shades = [open_image(data.image_path(row)).getpixel((0, 0))[0] for row in range(len(data))]
    assert shades == [50, 51, 52]
    assert rejected_rows(tmp_path / "mine")[0][1] == "has no picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "pictures", "saved"]  # no temporary files


def test_unusable_sources_are_refused(pictures, tmp_path, run):
    for source, message in (
        (tmp_path / "absent.csv", "is not there; expected a .csv"),
        (pictures / "0.png", "is of no known form"),
        (tmp_path / "a.csv", "has no column 'image', but picture, labels; name it with --image-column"),
        (tmp_path / "b.jsonl", "holds no usable row"),
        (tmp_path / "nothing", "holds no pictures"),
    ):
        (tmp_path / "a.csv").write_text("picture,labels\n0.png,x\n")
        (tmp_path / "b.jsonl").write_text("nonsense\n")
        (tmp_path / "nothing").mkdir(exist_ok=True)
        code, printed = run(custom, source, "--output", tmp_path / "mine")
        assert code == 2, printed
        assert message in printed
        assert printed.count("\n") == 1
    (tmp_path / "c.csv").write_text("image\nabsent.png\n")
    code, printed = run(custom, tmp_path / "c.csv", "--output", tmp_path / "mine")
    assert code == 2
    assert "of 1 rows none is left" in printed
    assert "no such picture" in (tmp_path / "mine.rejected.tsv").read_text()
