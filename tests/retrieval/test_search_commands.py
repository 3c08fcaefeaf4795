"""From codes to an index and a search, on the command line."""

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import math_hash
from math_hash.cli import main
from math_hash.data.images import open_image
from math_hash.hamming.codes import unpack
from math_hash.retrieval import open_index
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.searcher import EncodedQuery, Searcher


def command(*arguments):
    return main([str(argument) for argument in arguments])


def test_index_and_search_from_the_shell(trained_run, model, tiny_dataset, tmp_path, capsys):
    codes, index = tmp_path / "c", tmp_path / "i"
    assert command("encode", trained_run, tiny_dataset, "--output", codes, "--continuous") == 0
    assert command("index", codes, "--to", index) == 0
    capsys.readouterr()
    plain = ["search", index, "--model", trained_run, "--text", "red", "--json", "--rerank", "none"]
    assert command(*plain, "--top", 5) == 0
    results = json.loads(capsys.readouterr().out)
    distances = np.bitwise_count(CodesFolder.open(codes).codes ^ model.encode_text(["red"])).sum(axis=1)
    assert [result["distance"] for result in results] == np.sort(distances)[:5].tolist()
    assert [result["id"] for result in results] == [f"{row}.png" for row in np.argsort(distances, kind="stable")[:5]]
    picture = tiny_dataset / "7.png"
    assert (
        command("search", index, "--model", trained_run, "--image", picture, "--radius", 0, "--filter", "label=red")
        == 0
    )
    table = capsys.readouterr().out
    assert all("red" in line for line in table.splitlines()[1:])


def test_results_are_written_as_one_valid_page(encoded, trained_run, tiny_dataset, tmp_path):
    """Read by a strict parser of HTML; it needs no other file, and what looks like HTML stays text."""
    html5lib = pytest.importorskip("html5lib")
    codes, _ = encoded
    metadata = dict(codes.rows())
    words = "<b>&amp; \x01</b>"
    with open_index(tmp_path / "i", 16, codes.config["model"]) as index:
        index.add(list(metadata), codes.codes, [{**known, "text": words} for known in metadata.values()])
    sheet, query = tmp_path / "results.html", '<script>"red"</script>'
    flags = ["search", tmp_path / "i", "--model", trained_run, "--text", query, "--html", sheet, "--top", 4]
    assert command(*flags, "--images", tiny_dataset) == 0
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(sheet.read_bytes())
    assert [element.text for element in page.iter("h1")] == [query]
    assert len(list(page.iter("li"))) == 4
    assert {element.text for element in page.iter("span") if element.get("class") == "words"} == {"<b>&amp; \ufffd</b>"}
    assert not list(page.iter("script"))
    pictures = [element.get("src") for element in page.iter("img")]
    assert len(pictures) == 4
    assert all(Image.open(BytesIO(b64decode(source.partition("base64,")[2]))).size[1] == 40 for source in pictures)
    assert "url(" not in sheet.read_text()


@pytest.fixture(scope="module")
def encoded(trained_run, tiny_dataset, tmp_path_factory):
    """The pictures of the tiny dataset: a folder with everything that can be kept, and an index of it."""
    folder = tmp_path_factory.mktemp("encoded")
    flags = ["--output", folder / "codes", "--continuous", "--vectors", "int8", "--batch-size", 7]
    assert command("encode", trained_run, tiny_dataset, *flags) == 0
    assert command("index", folder / "codes", "--to", folder / "index") == 0
    return CodesFolder.open(folder / "codes"), folder / "index"


def found(capsys, *arguments):
    capsys.readouterr()
    assert command("search", *arguments, "--json") == 0
    return [int(result["id"].removesuffix(".png")) for result in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize("rerank", [None, "asymmetric", "continuous", "vectors"])
def test_candidates_are_reranked(encoded, trained_run, model, capsys, rerank):
    codes, index = encoded
    flags = [index, "--model", trained_run, "--text", "red"]
    distances = np.bitwise_count(codes.codes ^ model.encode_text(["red"])).sum(axis=1)
    candidates = np.argsort(distances, kind="stable")[:20].tolist()
    [query] = model.encode_text(["red"], output="vector" if rerank == "vectors" else "continuous")
    if rerank in ("continuous", "vectors"):
        rows = np.array(getattr(codes, rerank), np.float64)
        scores = [rows[row] @ query / np.linalg.norm(rows[row]) for row in range(60)]
        flags += ["--rerank", rerank, "--codes", codes.path]
    else:
        bits = unpack(codes.codes, 16)
        scores = [sum(q if bit else -q for q, bit in zip(query, bits[row], strict=True)) for row in range(60)]
        flags += ["--rerank", rerank] if rerank else []
    rows = found(capsys, *flags, "--candidates", 20, "--top", 20)
    assert sorted(rows) == sorted(candidates)
    assert np.allclose(np.array(scores)[rows], sorted((scores[row] for row in candidates), reverse=True), atol=1e-5)
    assert found(capsys, *flags, "--candidates", 20, "--top", 3) == rows[:3]
    assert len(found(capsys, *flags, "--candidates", 20, "--top", 30)) == 30  # as many candidates as results
    radius = int(np.sort(distances)[9])
    near = found(capsys, *flags, "--radius", radius)
    assert sorted(near) == np.flatnonzero(distances <= radius).tolist()
    if len(near) <= 200:
        assert np.allclose(np.array(scores)[near], sorted((scores[row] for row in near), reverse=True), atol=1e-5)


def test_a_search_says_that_nothing_close_was_found(encoded, trained_run, model, capsys, tmp_path):
    _, index = encoded
    plain = math_hash.load_model(trained_run)
    plain.results, plain.distributions = {}, {}
    plain.save(tmp_path / "plain")
    for number, (threshold, limit) in enumerate(((0, 0.0), (16, 1e9), (None, 1e9))):
        changed = math_hash.load_model(trained_run)
        changed.results = {"k_bits": 16, "thresholds": {"false_positive_rate": 0.01, "text->image": threshold}}
        changed.distributions = {"text": replace(model.distributions["text"], limit=limit)}
        changed.save(tmp_path / str(number))
    distances = np.bitwise_count(encoded[0].codes ^ model.encode_text(["red"])).sum(axis=1)
    assert distances.min() > 0
    notes = {}
    for name in ("plain", "0", "1", "2"):
        assert command("search", index, "--model", tmp_path / name, "--text", "red", "--json") == 0
        printed = capsys.readouterr()
        assert len(json.loads(printed.out)) == 20
        notes[name] = printed.err.splitlines()
    assert notes == {
        "plain": [], "1": [], "2": [],
        "0": [
            f"note: nothing close was found: the nearest is at distance {distances.min()}, above 0",
            "note: this text is unlike those that the model was trained on",
        ],
    }  # fmt: skip
    with open_index(index) as opened:
        searcher = Searcher(opened, math_hash.load_model(tmp_path / "0"))
        assert searcher.search(searcher.query("text", "red")).nothing_close
        code = opened.rows(["3.png"])[0][0][None]
        assert not searcher.search(EncodedQuery(code)).nothing_close  # of no known modality


def test_vectors_are_the_encoders(encoded, model, tiny_dataset):
    codes, _ = encoded
    pictures = [tiny_dataset / f"{row}.png" for row in range(60)]
    vectors = model.encode_image(pictures, output="vector")
    with torch.inference_mode():
        pixels = torch.stack([model.image_transform(open_image(path)) for path in pictures])
        pooled = model.encoder.encode_image(pixels).pooled.numpy()
    assert np.allclose(vectors, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-5)
    kept = codes.vectors.astype(np.float32)
    assert codes.vectors.dtype == np.int8
    assert (np.abs(kept).max(axis=1) == 127).all()
    steps = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(kept * steps - vectors) <= steps * 0.51).all()


def test_fewer_bits_without_retraining(trained_run, model, tiny_dataset, tmp_path, capsys):
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "all") == 0
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "few", "--bits", 5) == 0
    everything, few = CodesFolder.open(tmp_path / "all"), CodesFolder.open(tmp_path / "few")
    chosen = unpack(everything.codes, 16)[:, model.bit_order[:5]]
    assert (unpack(few.codes, 5) == chosen).all()
    cut = everything.with_bits(5)
    assert (cut.codes == few.codes).all()
    assert cut.config["model"] == few.config["model"]
    assert command("index", tmp_path / "all", "--to", tmp_path / "i", "--bits", 5) == 0
    assert command("search", tmp_path / "i", "--model", trained_run, "--text", "red", "--bits", 5) == 0
    assert command("search", tmp_path / "i", "--model", trained_run, "--text", "red") == 2
    assert command("index", tmp_path / "all", "--to", tmp_path / "j", "--bits", 17) == 2
    assert "17" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(trained_run, tiny_dataset, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("name,picture\na,b\n")
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c") == 0
    assert command("index", tmp_path / "c", "--to", tmp_path / "i") == 0
    broken = tmp_path / "c2"
    assert command("encode", trained_run, tiny_dataset, "--output", broken, "--modality", "text") == 0
    content = (broken / "codes.npy").read_bytes()
    (broken / "codes.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    search = ["search", tmp_path / "i", "--model", trained_run, "--text", "x"]
    capsys.readouterr()
    for arguments, message in (
        (["encode", trained_run, tmp_path / "none", "--output", tmp_path / "x"], "not there"),
        (["encode", trained_run, tmp_path / "empty", "--output", tmp_path / "x"], "holds no pictures"),
        (["encode", trained_run, tmp_path / "table.csv", "--output", tmp_path / "x"], "--image-column"),
        (["encode", tmp_path / "none", tiny_dataset, "--output", tmp_path / "x"], "no such model"),
        (["encode", trained_run, tiny_dataset, "--output", tmp_path / "c"], "is there already"),
        (["index", tmp_path / "none", "--to", tmp_path / "x"], "no codes are there"),
        (["index", broken, "--to", tmp_path / "x"], "has changed"),
        (["index", tmp_path / "c", "--to", tmp_path / "i"], "already"),
        (["search", tmp_path / "none", "--model", trained_run, "--text", "x"], "no index is there"),
        (["search", tmp_path / "i", "--model", trained_run, "--image", tmp_path / "none.jpg"], "no such picture"),
        (["search", tmp_path / "i", "--model", trained_run, "--text", "x", "--filter", "label"], "NAME=VALUE"),
        ([*search, "--rerank", "vectors"], "needs --codes"),
        ([*search, "--rerank", "vectors", "--codes", tmp_path / "c"], "encode with --vectors int8"),
        ([*search, "--rerank", "continuous", "--codes", tmp_path / "c"], "encode with --continuous"),
        ([*search, "--codes", tmp_path / "c"], "is not read with --rerank asymmetric"),
        (["serve", tmp_path / "i", "--model", trained_run, "--host", "0.0.0.0"], "needs --token"),
        (["serve", tmp_path / "i", "--model", trained_run, "--images", tmp_path / "none"], "no such folder"),
    ):
        assert command(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_another_models_codes_are_refused(trained_run, model, tiny_dataset, tmp_path, capsys):
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c") == 0
    assert command("index", tmp_path / "c", "--to", tmp_path / "i") == 0
    other = math_hash.load_model(trained_run)
    other.head.load_state_dict({name: value + 0.01 for name, value in other.head.state_dict().items()})
    other.save(tmp_path / "other")
    assert command("search", tmp_path / "i", "--model", tmp_path / "other", "--text", "x") == 2
    assert "another model" in capsys.readouterr().err
