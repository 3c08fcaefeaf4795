"""The whole path on real MIRFlickr photographs: tool, training, evaluation, loading, encoding."""

import json
import tarfile

import pytest
from conftest import shared

import math_hash
from math_hash.cli import main_py
from math_hash.data import open_image, read_dataset
from math_hash.data.building import flickr25k
from math_hash.data.text_files import read_lines
from math_hash.hamming.codes import unpack

ROWS = 400


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The first 400 instances of the real lists, with their pictures."""
    source = shared("mirflickr25k-mini")
    folder = tmp_path_factory.mktemp("mirflickr")
    (folder / "lists").mkdir()
    for path in (source / "lists").iterdir():
        (folder / "lists" / path.name).write_text("\n".join(read_lines(path)[:ROWS]) + "\n")
    wanted = set(read_lines(folder / "lists" / "all_imgs.txt"))
    with tarfile.open(source / "images.tar") as archive:
        archive.extractall(folder, [item for item in archive if item.name in wanted], filter="data")
    return folder


@pytest.mark.slow
def test_from_photographs_to_codes(photographs, tmp_path, capsys):
    arguments = ["--lists", photographs / "lists", "--images", photographs / "mirflickr", "--allow-partial"]
    output = tmp_path / "sets" / "flickr25k"
    assert flickr25k.main([*map(str, arguments), "--output", str(output)]) == 0
    run = tmp_path / "run"
    flags = ["--dataset-root", str(tmp_path / "sets"), "--encoder", "demo", "--encoder-weights", "none"]
    flags += ["--resolution", "56", "--query-num", "50", "--train-num", "200", "--val-num", "40", "--epochs", "1"]
    flags += ["--clip-lr", "0.001", "--batch-size", "32", "--num-workers", "0", "--save-dir", str(run)]
    assert main_py(["--is-train", *flags]) == 0
    printed = capsys.readouterr().out
    assert "chance level" in printed
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"] == "flickr25k (partial)"
    assert 0.4 < results["floor"] < 0.65  # rows of MIRFlickr share labels often
    assert min(results["mAP"].values()) > results["floor"] - 0.03

    model = math_hash.load_model(run)
    data = read_dataset(tmp_path / "sets" / "flickr25k")
    pictures = [open_image(data.image_path(row)) for row in range(20)]
    codes = model.encode_image(pictures)
    assert (unpack(codes, 16) == model.encode_image(pictures, output="bits")).all()
    assert model.encode_text(data.captions[:20]).shape == codes.shape == (20, 2)
    assert open_image(run / "plots" / "retrieval.png").width > 1000
