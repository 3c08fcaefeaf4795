"""Files of earlier versions still open, and give the same codes and neighbors.

fixtures/earlier was made by revision 9f24435, in this order:

- The tiny dataset of 60 rows (`math_hash.testing.tiny`), and a CLIP of width 8 with one block per tower, 2 x 2 patches
  and random weights, added to open_clip's models by `open_clip.add_model_config`. The embeddings of all tokens but
  those of "red green blue and a picture of something red, or blue" are zero, so that the file compresses well.
- run: `math-hash train --encoder smallest --k-bits 12 --max-words 12 --resolution 32 --query-num 10 --train-num 40
  --val-num 9 --batch-size 8 --epochs 25 --valid-freq 5 --lr 0.005 --clip-lr 0.02 --transformer-layers 1 --seed 11`;
  checkpoints, plots and the tracker's files were deleted.
- pictures: rows 1 to 8 of the dataset, with a table. codes: `math-hash encode run pictures/pictures.csv --output codes
  --continuous`, its two paths made relative afterwards. index: `math-hash index codes --to index`.
- expected.json: packed codes as `model.encode_image` and `model.encode_text` gave them, in hexadecimal; searches of the
  index; the run's mAP. The seed is the first one with at least 6 different codes of pictures and 4 of texts where no
  continuous code of the 60 rows or of these texts is within 0.001 of zero (the nearest, `least`, is at 0.0069): no
  processor's rounding can flip a bit. The script that made it all asserted this.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import math_hash
from math_hash.cli import main_py
from math_hash.data.records import Columns
from math_hash.retrieval import open_index
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.encode import encode_collection

EARLIER = Path(__file__).parent / "fixtures" / "earlier"
EXPECTED = json.loads((EARLIER / "expected.json").read_text())
PICTURES = [EARLIER / "pictures" / name for name in EXPECTED["pictures"]]


@pytest.fixture(scope="module")
def earlier_model():
    return math_hash.load_model(EARLIER / "run")


def hexadecimal(codes):
    return [code.tobytes().hex() for code in codes]


def test_a_run_opens_and_gives_the_same_codes(earlier_model):
    assert (earlier_model.method, earlier_model.k_bits, earlier_model.max_words) == ("MATH", 12, 12)
    assert hexadecimal(earlier_model.encode_image(PICTURES)) == [*EXPECTED["pictures"].values()]
    assert hexadecimal(earlier_model.encode_text([*EXPECTED["texts"]])) == [*EXPECTED["texts"].values()]
    assert earlier_model.results["mAP"] == EXPECTED["mAP"]


def test_no_code_is_near_zero(earlier_model):
    for continuous in (
        earlier_model.encode_image(PICTURES, output="continuous"),
        earlier_model.encode_text([*EXPECTED["texts"]], output="continuous"),
    ):
        assert np.abs(continuous).min() > EXPECTED["least"] - 1e-4 > 1e-3


def test_evaluating_a_run_repeats_its_results(tiny_dataset, tmp_path):
    flags = [
        "--dataset-root", tiny_dataset.parent, "--dataset", "tiny", "--pretrained", EARLIER / "run", "--k-bits", 12,
        "--query-num", 10, "--train-num", 40, "--val-num", 9, "--num-workers", 0, "--save-dir", tmp_path / "again",
    ]  # fmt: skip
    assert main_py([str(flag) for flag in flags]) == 0
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["mAP"] == pytest.approx(EXPECTED["mAP"], abs=1e-12)


def test_a_codes_folder_opens_and_names_its_model(earlier_model):
    folder = CodesFolder.open(EARLIER / "codes")
    assert folder.config["model"] == earlier_model.fingerprint
    assert hexadecimal(folder.codes) == [*EXPECTED["pictures"].values()]
    assert folder.continuous.shape == (8, 12)
    assert [metadata["image"] for _, metadata in folder.rows()] == [*EXPECTED["pictures"]]


def test_encoding_the_pictures_again_writes_the_same_rows_and_codes(earlier_model, tmp_path):
    folder = encode_collection(
        earlier_model, EARLIER / "pictures" / "pictures.csv", tmp_path / "codes",
        columns=Columns(labels="label"), continuous=True, num_workers=0, progress=False,
    )  # fmt: skip
    # version 0.1 called the labels `label` in rows.jsonl
    again, earlier = (list(CodesFolder.open(path).rows()) for path in (tmp_path / "codes", EARLIER / "codes"))
    assert again == earlier
    assert earlier[0][1]["labels"] == ["red", "green"]
    for name in ("codes.npy", "rejected.tsv"):
        assert (tmp_path / "codes" / name).read_bytes() == (EARLIER / "codes" / name).read_bytes(), name
    before = CodesFolder.open(EARLIER / "codes")
    assert np.allclose(folder.continuous, before.continuous, atol=1e-3)
    assert folder.config.keys() == before.config.keys() | {"precision", "vectors"}


@pytest.fixture
def earlier_index(tmp_path):
    """A copy: opening an index may write into its folder."""
    with open_index(shutil.copytree(EARLIER / "index", tmp_path / "index"), create=False) as index:
        yield index


@pytest.mark.parametrize("search", EXPECTED["searches"])
def test_an_index_finds_the_same_neighbors(earlier_index, earlier_model, search):
    earlier_index.require_model(earlier_model.fingerprint, 12)
    if "text" in search:
        code = earlier_model.encode_text([search["text"]])
    else:
        code = earlier_model.encode_image([EARLIER / "pictures" / search["picture"]])
    if "radius" in search:
        (neighbors,) = earlier_index.search_radius(code, search["radius"])
    else:
        (neighbors,) = earlier_index.search(code, search["top_k"], search.get("where"))
    assert neighbors.ids.tolist() == search["ids"]
    assert neighbors.distances.tolist() == search["distances"]


def test_an_index_takes_more_rows(earlier_index, earlier_model):
    assert len(earlier_index) == 8
    ((code, metadata),) = earlier_index.rows(["picture 4"])
    assert (code.tobytes().hex(), metadata["label"]) == (EXPECTED["pictures"]["4.png"], ["green"])
    earlier_index.add(["one more"], code[None], [{"label": ["green"]}])
    earlier_index.save()
    (neighbors,) = earlier_index.search(code[None], 2)
    assert neighbors.ids.tolist() == ["picture 4", "one more"]
