import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import make_tiny_dataset

from math_hash import InputError, files
from math_hash.data import read_dataset, write_dataset, write_mat
from math_hash.files import sha256


@pytest.fixture
def folder(tmp_path):
    return make_tiny_dataset(tmp_path / "tiny", rows=12)


def test_a_written_dataset_is_read_again(folder):
    data = read_dataset(folder)
    assert len(data) == 12
    assert data.captions[0] == ""  # an empty text is a text
    names = data.manifest["label_names"]
    for text, label in zip(data.label_texts, data.labels, strict=True):
        assert text == " ".join(np.array(names)[label > 0])
    assert data.manifest["sha256"]["label.mat"] == sha256(folder / "label.mat")
    assert all(data.image_path(row).is_file() for row in range(12))


def test_lengths_that_differ_name_the_files(folder):
    write_mat(folder / "caption.mat", {"caption": ["a", "b"]})
    with pytest.raises(InputError, match=r"caption\.mat has 2, label\.mat has 12"):
        read_dataset(folder)


def test_a_row_without_labels_is_named(folder):
    labels = read_dataset(folder).labels
    labels[[3, 5]] = 0
    write_mat(folder / "label.mat", {"label": labels})
    with pytest.raises(InputError, match="row 3 has no label"):
        read_dataset(folder)


def test_relative_paths_stay_inside_the_image_root(folder):
    images = read_dataset(folder).images
    images[4] = "../../secret.png"
    write_mat(folder / "index.mat", {"index": images})
    with pytest.raises(InputError, match=r"row 4.*leads out of the image root"):
        read_dataset(folder).image_path(4)
    images[4] = "/elsewhere/a.png"  # absolute paths are part of the releases' format
    write_mat(folder / "index.mat", {"index": images})
    assert str(read_dataset(folder).image_path(4)) == "/elsewhere/a.png"


def test_image_root_is_recorded_relative_to_the_folder(tmp_path):
    arguments = {
        "images": ["a.png"],
        "captions": ["x"],
        "labels": np.ones((1, 1), np.uint8),
        "label_names": ["l"],
        "protocol": "own",
    }
    data = write_dataset(tmp_path / "sets" / "one", image_root=tmp_path / "pictures", **arguments)
    assert json.loads((tmp_path / "sets/one/manifest.json").read_text())["image_root"] == "../../pictures"
    assert os.path.normpath(data.image_path(0)) == str(tmp_path / "pictures" / "a.png")


def test_a_failed_build_leaves_the_older_folder_unchanged(folder):
    before = {path.name: sha256(path) for path in folder.iterdir()}
    with pytest.raises(InputError, match="no label"):
        write_dataset(
            folder,
            images=["a"],
            captions=["b"],
            labels=np.zeros((1, 2), np.uint8),
            label_names=["x", "y"],
            protocol="own",
        )
    assert {path.name: sha256(path) for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


WRITER = """
import sys, numpy as np
from math_hash.data import write_dataset
for number in range(10**6):
    rows = 3 + number % 5
    write_dataset(sys.argv[1], images=[f"{number}.png"] * rows, captions=[str(number)] * rows,
                  labels=np.ones((rows, 1), np.uint8), label_names=["l"], protocol="own")
    print(number, flush=True)
"""


@pytest.mark.slow
def test_after_a_kill_at_any_moment_the_folder_is_the_older_or_the_newer_one(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "set"], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        finished = [int(line) for line in process.stdout.read().split()] or [0]
        process.wait()
        process.stdout.close()
        data = read_dataset(tmp_path / "set")
        number = int(data.captions[0])
        assert number in (finished[-1], finished[-1] + 1)
        assert data.images == [f"{number}.png"] * (3 + number % 5)
        assert all(sha256(data.path / name) == expected for name, expected in data.manifest["sha256"].items())
    make_tiny_dataset(tmp_path / "set", rows=12)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # leftovers of killed processes are gone


def test_if_folders_cannot_be_swapped_two_renames_are_used(folder, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    make_tiny_dataset(folder, rows=5)
    assert len(read_dataset(folder)) == 5
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
