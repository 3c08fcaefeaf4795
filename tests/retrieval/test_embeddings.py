"""Hashing embeddings that were computed elsewhere, training on them, and codes as parquet."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import TINY
from packaging.version import Version

import math_hash
from math_hash.cli import main
from math_hash.data import read_dataset
from math_hash.data.building.embeddings import main as make_embeddings
from math_hash.encoders import ClipEncoder, PrecomputedEncoder
from math_hash.methods import complete_options
from math_hash.models.model import HashModel
from math_hash.retrieval import shards
from math_hash.retrieval.codes_folder import CodesFolder

ROWS, IMAGE_WIDTH, TEXT_WIDTH = 25, 24, 16


def save_model(folder, encoder, method="DSPH"):
    torch.manual_seed(0)
    facts = {"num_labels": 3, "stage_widths": encoder.stage_widths}
    HashModel(encoder, method, 20, complete_options(method, {}, facts), 12).save(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("run") / "run", PrecomputedEncoder(IMAGE_WIDTH, TEXT_WIDTH))


@pytest.fixture
def made(tmp_path):
    """A folder as clip-retrieval writes it, in parts of 11 and 14 rows; the numbers of parts do not sort as text."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((ROWS, IMAGE_WIDTH)).astype(np.float16)
    text = rng.standard_normal((ROWS, TEXT_WIDTH)).astype(np.float32)
    folder = tmp_path / "embeddings"
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    labels = [["red"] * (row % 2) + ["big"] * (row % 3 > 0) for row in range(ROWS)]
    for number, part in ((2, slice(0, 11)), (10, slice(11, ROWS))):
        np.save(folder / f"img_emb/img_emb_{number}.npy", image[part])
        np.save(folder / f"text_emb/text_emb_{number}.npy", text[part])
        rows = range(ROWS)[part]
        columns = {
            "image_path": [f"p/{row}.jpg" for row in rows],
            "caption": [f"picture {row}" for row in rows],
            "label": labels[part],
            "width": [row * 10 for row in rows],
        }
        pq.write_table(pa.table(columns), folder / f"metadata/metadata_{number}.parquet")
    return SimpleNamespace(folder=folder, image=image, text=text, labels=labels)


def encode(run, source, output, *flags):
    return main(["encode", str(run), str(source), "--output", str(output), *map(str, flags)])


def codes_of(run, vectors, modality):
    """The model's own codes of all vectors at once."""
    model = math_hash.load_model(run)
    hashed = getattr(model, f"hash_{modality}")({"pooled": torch.from_numpy(np.asarray(vectors, np.float32))})
    return np.packbits(hashed.detach().numpy() >= 0, axis=1)


def refused(capsys, message, code):
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error, error


def test_a_clip_retrieval_folder_gives_the_models_codes_in_order(run, made, tmp_path):
    for modality, vectors in (("image", made.image), ("text", made.text)):
        output = tmp_path / modality
        assert encode(run, made.folder, output, "--modality", modality, "--batch-size", 4) == 0
        opened = CodesFolder.open(output)
        assert (opened.codes == codes_of(run, vectors, modality)).all()
        names, metadata = zip(*opened.rows(), strict=True)
        assert list(names) == [f"p/{row}.jpg" for row in range(ROWS)]
        assert metadata[5] == {"width": 50, "image": "p/5.jpg", "text": "picture 5", "labels": ["red", "big"]}


# pyarrow before 26 cannot read a fixed-size list from a parquet file in which a row has none
READS_MISSING_ONES = pytest.mark.skipif(Version(pa.__version__) < Version("26"), reason="an error of older pyarrow")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pytest.param(pa.list_(pa.float16(), IMAGE_WIDTH), marks=READS_MISSING_ONES),
        pa.large_list(pa.float64()),
    ],
)
def test_parquet_files_give_the_models_codes_and_unusable_vectors_are_listed(run, made, tmp_path, kind):
    vectors = [list(map(kind.value_type.to_pandas_dtype(), row)) for row in made.image]
    vectors[3], vectors[7] = None, [kind.value_type.to_pandas_dtype()("nan"), *vectors[7][1:]]
    if not pa.types.is_fixed_size_list(kind):
        vectors[9] = vectors[9][:-1]
    rows = {"id": [f"n{row}" for row in range(ROWS)], "label": ["red, big"] * ROWS, "v": pa.array(vectors, kind)}
    (tmp_path / "rows").mkdir()
    for name, start, stop in (("a", 0, 10), ("b", 10, ROWS)):
        pq.write_table(pa.table(rows).slice(start, stop - start), tmp_path / f"rows/{name}.parquet", row_group_size=3)
    assert encode(run, tmp_path / "rows", tmp_path / "codes", "--vector-column", "v") == 0
    opened = CodesFolder.open(tmp_path / "codes")
    kept = [row for row in range(ROWS) if row not in ((3, 7) if pa.types.is_fixed_size_list(kind) else (3, 7, 9))]
    assert [name for name, _ in opened.rows()] == [f"n{row}" for row in kept]
    assert next(opened.rows())[1] == {"labels": ["red", "big"]}
    assert (opened.codes == codes_of(run, made.image[kept], "image")).all()
    rejected = dict(line.split("\t") for line in (tmp_path / "codes/rejected.tsv").read_text().splitlines())
    assert rejected[f"{tmp_path}/rows/a.parquet, row 7"] == "its vector has NaN or infinite values"
    assert rejected[f"{tmp_path}/rows/a.parquet, row 3"] == f"has a vector of 0 numbers; expected {IMAGE_WIDTH}"
    assert len(rejected) == ROWS - len(kept)


def test_a_resumed_run_is_byte_equal_and_notices_other_vectors(run, made, tmp_path, monkeypatch, shards_written):
    monkeypatch.setattr(shards, "SHARD_ROWS", 8)
    shards_written.stop_at = 2
    assert encode(run, made.folder, tmp_path / "again", "--parquet") == 130
    changed = np.load(made.folder / "img_emb/img_emb_2.npy")
    changed[9] *= -1  # in the second shard
    np.save(made.folder / "img_emb/img_emb_2.npy", changed)
    assert encode(run, made.folder, tmp_path / "again", "--parquet") == 0
    assert shards_written.count == 2 + 3  # the first of four shards was kept
    assert encode(run, made.folder, tmp_path / "once", "--parquet") == 0
    names = {path.name for path in (tmp_path / "once").iterdir()}
    assert {"codes.npy", "codes.parquet"} < names
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_codes_as_parquet_hold_what_the_folder_holds(run, made, tmp_path, monkeypatch):
    monkeypatch.setattr("math_hash.retrieval.codes_parquet._ROW_GROUP", 10)
    assert encode(run, made.folder, tmp_path / "codes", "--parquet") == 0
    opened, table = CodesFolder.open(tmp_path / "codes"), pq.read_table(tmp_path / "codes/codes.parquet")
    assert table.schema.field("code").type == pa.binary(3)
    assert b"".join(table["code"].to_pylist()) == opened.codes.tobytes()
    rows = zip(table["id"].to_pylist(), map(json.loads, table["metadata"].to_pylist()), strict=True)
    assert list(rows) == list(opened.rows())
    assert table.schema.metadata[b"model"].decode() == opened.config["model"]
    assert table.schema.metadata[b"k_bits"] == b"20"


def test_damaged_and_mismatched_embeddings_are_one_line(run, made, tmp_path, capsys):
    def fails(message, *flags, model=run, source=made.folder):
        refused(capsys, message, encode(model, source, tmp_path / "codes", *flags))
        assert not (tmp_path / "codes").exists()

    parquet = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": [[1.0] * 24], "b": [[2.0] * 24], "c": ["x"]}), parquet)
    fails("expected one column of lists of floats, found a, b; name it with --vector-column", source=parquet)
    fails("'c' is no column of lists of floats; those are: a, b", "--vector-column", "c", source=parquet)
    fails("vectors of 24 numbers, expected 16", "--vector-column", "a", "--modality", "text", source=parquet)
    parquet.write_bytes(parquet.read_bytes()[:-40])
    fails("rows.parquet: not readable as parquet", source=parquet)
    metadata = made.folder / "metadata/metadata_10.parquet"
    table = pq.read_table(metadata)
    pq.write_table(table.slice(1), metadata)
    fails("img_emb_10.npy: 14 rows, but")
    pq.write_table(table, metadata)
    (made.folder / "metadata/metadata_3.parquet").write_bytes(b"")
    fails("img_emb/ and metadata/ differ in their parts (3)")
    (made.folder / "metadata/metadata_3.parquet").unlink()
    pages = bytearray(metadata.read_bytes())
    pages[4:60] = b"\xff" * 56  # its directory at the end stays whole
    metadata.write_bytes(pages)
    fails("metadata_10.parquet: not readable as parquet")
    vectors = made.folder / "img_emb/img_emb_10.npy"
    vectors.write_bytes(vectors.read_bytes()[:300])
    fails("img_emb_10.npy: not a readable array")
    np.save(vectors, np.zeros(5, int))
    fails("img_emb_10.npy: int64 (5,); expected floats (n, d)")
    needs_tokens = save_model(tmp_path / "math", PrecomputedEncoder(64, 64), "MATH")
    fails("MATH needs states of tokens, so this model cannot hash embeddings", model=needs_tokens)


def test_a_model_with_a_clip_hashes_its_pooled_vectors_but_no_scaled_ones(tmp_path, capsys):
    run = save_model(tmp_path / "run", ClipEncoder(TINY))
    model = math_hash.load_model(run)
    pictures = torch.randint(0, 256, (6, 3, 40, 40), generator=torch.manual_seed(1), dtype=torch.uint8)
    with torch.inference_mode():
        pooled = model.encoder.encode_image(model.image_transform.tensor(pictures), model.head.needs).pooled.numpy()
    (tmp_path / "e/img_emb").mkdir(parents=True)
    np.save(tmp_path / "e/img_emb/img_emb_0.npy", pooled)
    assert encode(run, tmp_path / "e", tmp_path / "codes") == 0
    assert (CodesFolder.open(tmp_path / "codes").codes == model.encode_image(pictures)).all()
    np.save(tmp_path / "e/img_emb/img_emb_0.npy", pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    refused(capsys, "scaled to length 1", encode(run, tmp_path / "e", tmp_path / "scaled"))


@pytest.mark.slow
def test_training_on_embeddings_gives_a_model_that_hashes_them(made, tmp_path, capsys):
    image = np.load(made.folder / "img_emb/img_emb_2.npy")
    image[4, 0] = np.inf
    np.save(made.folder / "img_emb/img_emb_2.npy", image)
    output = tmp_path / "sets/mine"
    arguments = [str(made.folder), "--output", str(output), "--label-column", "label"]
    assert make_embeddings(arguments) == 0
    data, kept = read_dataset(output, allow_unlabelled=True), [row for row in range(ROWS) if row != 4]
    assert data.images == [f"p/{row}.jpg" for row in kept]
    assert data.captions == [f"picture {row}" for row in kept]
    assert [sorted(text.split()) for text in data.label_texts] == [sorted(made.labels[row]) for row in kept]
    for stream, vectors in (("image", made.image), ("text", made.text)):
        assert (np.load(output / f"features/{stream}_pooled.npy") == vectors[kept].astype(np.float32)).all()
    assert "metadata" not in (output / "rejected.tsv").read_text()
    assert "row 4\tits vector has NaN or infinite values" in (output / "rejected.tsv").read_text()

    flags = ["--dataset-root", str(tmp_path / "sets"), "--dataset", "mine", "--features", str(output / "features")]
    flags += ["--epochs", "1", "--batch-size", "8", "--val-num", "4", "--save-dir", str(tmp_path / "run")]
    refused(capsys, "image_tokens.npy, text_tokens.npy, label_pooled.npy", main(["train", *flags, "--method", "MATH"]))
    assert not (tmp_path / "run").exists()
    assert main(["train", *flags, "--method", "DSPH"]) == 0
    assert encode(tmp_path / "run", made.folder, tmp_path / "codes", "--modality", "text") == 0
    assert (CodesFolder.open(tmp_path / "codes").codes == codes_of(tmp_path / "run", made.text, "text")).all()

    pq.write_table(
        pa.table(
            {"i": made.image.astype(np.float32).tolist(), "t": made.text.tolist(), "labels": ["red", "big"] * 12 + [""]}
        ),
        tmp_path / "rows.parquet",
    )
    again = [str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "sets/parquet")]
    assert make_embeddings([*again, "--image-vectors", "i", "--text-vectors", "t"]) == 0
    assert (np.load(tmp_path / "sets/parquet/features/text_pooled.npy") == made.text).all()
    assert read_dataset(tmp_path / "sets/parquet", allow_unlabelled=True).label_names == ["big", "red"]
    np.save(made.folder / "text_emb/text_emb_2.npy", made.text[:10])
    refused(capsys, "text_emb_2.npy: 10 rows", make_embeddings(arguments))
