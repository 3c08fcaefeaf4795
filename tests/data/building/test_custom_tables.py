"""A person's own collection: tables, folders, tars and saved datasets; what is wrong with it is listed, never fatal."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from conftest import load_tool
from PIL import Image

from math_hash.cli import main
from math_hash.data import inspect_images, open_image, read_dataset
from math_hash.data.figures import _font

custom = load_tool("make_custom")


def picture_bytes(shade, form="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, 40, 90)).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for row in range(6):
        (folder / f"{row}.png").write_bytes(picture_bytes(row * 20))
    (folder / "sub/é 6.jpg").write_bytes(picture_bytes(200, "JPEG"))
    return folder


def rejected(folder):
    return [line.split("\t") for line in (folder / "rejected.tsv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [("a.csv", ",", "utf-8-sig"), ("a.csv", ";", "cp1252"), ("a.tsv", "\t", "utf-16")],
)
def test_a_table(pictures, tmp_path, run, name, delimiter, encoding):
    table = pictures / name
    with open(table, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "image", "text", "labels"])
        writer.writerow([1, "0.png", f'a "dog"{delimiter}\ntwo lines', "dog| small dog |dog"])
        writer.writerow([2, "1.png", "", "cat"])
        writer.writerow([3, "2.png", "été", ""])
        writer.writerow([4, "sub\\é 6.jpg", "x", "cat|dog"])
        writer.writerow([5, "absent.png", "x", "cat"])
        writer.writerow([6, "", "x", "cat"])
        writer.writerow([7, "../../secret.png", "x", "cat"])
        writer.writerow([8])
    code, printed = run(custom, table, "--separator", "|", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.images == ["0.png", "1.png", "2.png", "sub/é 6.jpg"]
    assert data.captions == [" ".join(f'a "dog"{delimiter} two lines'.split()), "", "été", "x"]
    assert data.label_names == ["cat", "dog", "small dog"]
    assert data.labels.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert data.image_path(3).is_file()
    reasons = [reason for _, reason in rejected(tmp_path / "mine")]
    assert reasons[:3] == [
        "has no picture",
        "../../secret.png leads out of the folder of the pictures",
        "has no picture",
    ]
    assert "absent.png: no such picture" in reasons[3]
    assert "4 rows, listed in rejected.tsv" in printed
    assert "no label        1 rows" in printed


def test_json_lines_with_lists_other_names_and_broken_lines(pictures, tmp_path, run):
    table = tmp_path / "a.jsonl"
    rows = [
        {"file": "0.png", "captions": ["one", "two "], "tags": ["b, with comma", "a"]},
        {"file": "1.png", "captions": None, "tags": "a;b, with comma"},
    ]
    table.write_text("\n".join([*map(json.dumps, rows), "{broken", "[1]", "", '{"captions": "no picture"}']))
    names = ["--image-column", "file", "--text-column", "captions", "--label-column", "tags", "--separator", ";"]
    code, printed = run(custom, table, *names, "--images", pictures, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.manifest["captions"] == [["one", "two"], []]
    assert data.captions == ["one", ""]
    assert data.labels.tolist() == [[1, 1], [1, 1]]
    found = rejected(tmp_path / "mine")
    assert [place.rsplit(" ", 1)[1] for place, _ in found] == ["3", "4", "6"]
    assert [reason.split(" (")[0] for _, reason in found] == ["not JSON", "not a JSON object", "has no picture"]


def test_a_vocabulary_and_a_minimum_count(pictures, tmp_path, run):
    table = pictures / "a.csv"
    table.write_text('image,labels\n0.png,x\n1.png,y\n2.png,"y,x"\n3.png,seldom\n')
    assert run(custom, table, "--min-count", "2", "--output", tmp_path / "mine")[0] == 0
    data = read_dataset(tmp_path / "mine")
    assert data.label_names == ["x", "y"]
    assert data.labels.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    (tmp_path / "names.txt").write_text("y\r\nx\r\nnone has it\r\n")
    options = ["--vocabulary", tmp_path / "names.txt", "--output", tmp_path / "other"]
    code, printed = run(custom, table, *options)
    assert code == 2
    assert "a.csv, line 5: unknown label 'seldom'; known are y; x; none has it" in printed
    assert not (tmp_path / "other").exists()
    table.write_text(table.read_text().replace("seldom", "y"))
    assert run(custom, table, *options, "--labels-as-text")[0] == 0
    data = read_dataset(tmp_path / "other")
    assert data.label_names == ["y", "x", "none has it"]
    assert data.captions == ["x", "y", "y, x", "y"]
    (tmp_path / "names.txt").write_text("x\nx\n")
    assert "names 'x' twice" in run(custom, table, *options)[1]


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


def test_nothing_but_a_dataset_is_ever_replaced(pictures, tmp_path, run):
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


def test_class_folders(tmp_path, run):
    for name in ("dog/1.jpg", "dog/deep/2.jpg", "cat/1.jpg"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(picture_bytes(9, "JPEG"))
    code, printed = run(custom, tmp_path / "raw", "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert (data.images, data.label_texts) == (["cat/1.jpg", "dog/1.jpg", "dog/deep/2.jpg"], ["cat", "dog", "dog"])
    assert "duplicates      2 pictures, such as dog/1.jpg = cat/1.jpg" in printed
    assert "no row has a text" in printed


def test_dirty_pictures_are_shown_as_a_viewer_shows_them_or_listed(tmp_path, run):
    raw = tmp_path / "raw"
    raw.mkdir()
    frames = [Image.new("P", (6, 4), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette([250, 10, 10, 10, 250, 10])
    frames[0].save(raw / "animated.gif", save_all=True, append_images=frames[1:])
    grey = np.full((4, 6), 200 * 256, np.uint16)
    Image.fromarray(grey).save(raw / "grey16.png")
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
    colours = {name: open_image(data.image_path(row)) for row, name in enumerate(data.images)}
    assert colours.pop("turned.jpg").size == (4, 6)
    expected = {
        "animated.gif": (250, 10, 10),
        "grey16.png": (200, 200, 200),
        "print.jpg": (255, 0, 0),
        "clear.png": (255, 255, 255),
        "palette.png": (10, 200, 30),
        "palette-clear.png": (255, 255, 255),
    }
    for name, image in colours.items():
        assert np.abs(np.array(image.getpixel((0, 0))) - expected.pop(name)).max() <= 3, name
    assert not expected
    reasons = dict(rejected(tmp_path / "mine"))
    assert sorted(reasons) == ["cut.jpg", "empty.png", "noise.webp", "page.jpg"]
    assert "is a web page, not a picture" in reasons["page.jpg"]
    assert "is empty" in reasons["empty.png"]


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
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


def test_webdataset_pictures_stay_in_their_tars(shards, tmp_path, run):
    code, printed = run(custom, shards, "--output", tmp_path / "mine")
    assert code == 0, printed
    data = read_dataset(tmp_path / "mine")
    assert data.images == ["train-000.tar/a/0001.jpg", "train-000.tar/a/0002.png", "train-001.tar/0002.webp"]
    assert data.captions == ["a dog", "cats", ""]
    assert data.label_texts == ["dog", "cat two", ""]
    for row, shade in enumerate((10, 20, 30)):
        assert abs(open_image(data.image_path(row)).getpixel((0, 0))[0] - shade) < 12
    assert [reason.split(" (")[0] for _, reason in rejected(tmp_path / "mine")] == [
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
    assert data.captions == ["one", "", "three", *(["three"] if splits else [])]
    assert data.label_texts == ["cat", "cat dog", "", *([""] if splits else [])]
    shades = [open_image(data.image_path(row)).getpixel((0, 0))[0] for row in range(len(data))]
    assert shades == [50, 51, 52, *([52] if splits else [])]
    assert rejected(tmp_path / "mine")[0][1] == "has no picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "pictures", "saved"]  # no scratch is left


def test_sources_that_cannot_be_used(pictures, tmp_path, run):
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


def test_letters_of_many_scripts_are_drawn():
    drawn = {bytes(_font(20).getmask(letter)) for letter in "ñéжλşن"}
    assert len(drawn) == 6  # a font without them draws the same box for each


def test_check_and_show(shards, tmp_path, run, capsys):
    assert run(custom, shards, "--output", tmp_path / "mine")[0] == 0
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 0
    assert "labels          3, 1 (0 to 2) a row" in capsys.readouterr().out
    assert main(["dataset", "show", str(tmp_path / "mine"), "--rows", "2"]) == 0
    assert Image.open(tmp_path / "mine.png").width > 900
    (tmp_path / "mine/manifest.json").unlink()  # as folders made elsewhere come
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "row 2 has no label" in capsys.readouterr().err
    assert main(["dataset", "check", str(tmp_path / "mine"), "--allow-unlabelled", "--image-root", str(shards)]) == 0
    manifest = json.loads((tmp_path / "mine/manifest.json").read_text())
    assert (manifest["rows"], manifest["label_names"][1]) == (3, "dog")
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 0  # the manifest knows the rest now
    (shards / "train-001.tar").write_bytes(b"")
    capsys.readouterr()
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "1 of 3 pictures are unusable" in capsys.readouterr().err
    assert "train-001.tar/0002.webp" in (tmp_path / "mine/rejected.tsv").read_text()
    content = bytearray((tmp_path / "mine/label.mat").read_bytes())
    content[30] ^= 1
    (tmp_path / "mine/label.mat").write_bytes(content)
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "has changed since it was written" in capsys.readouterr().err
