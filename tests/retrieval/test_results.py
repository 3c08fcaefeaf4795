"""Searching an index by words or by a picture, and how the results are shown."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from math_hash import InputError
from math_hash.data import read_dataset
from math_hash.hamming.codes import unpack
from math_hash.models.model import HashModel
from math_hash.retrieval import open_index


@pytest.fixture(scope="module")
def index(model, tiny_dataset, tmp_path_factory):
    """The pictures of the tiny dataset, with metadata, of which row 0's would be markup."""
    folder = read_dataset(tiny_dataset)
    rows = zip(folder.images, folder.texts, strict=True)
    metadata = [{"image": image, "text": " ".join(texts), "label": ["red"]} for image, texts in rows]
    metadata[0] |= {"text": "<script>alert(1)</script>", "label": ["a&b", "c"]}
    with open_index(
        tmp_path_factory.mktemp("results") / "i", model.k_bits, model.fingerprint, image_root=tiny_dataset
    ) as index:
        index.add(folder.images, model.encode_image([tiny_dataset / image for image in folder.images]), metadata)
        yield index


def test_results_are_the_rows_with_the_highest_scores(index, model):
    ids, codes = index.all_codes()
    signs = unpack(codes, model.k_bits) * 2.0 - 1
    for text in ("red", "green and blue"):
        scores = dict(zip(ids.tolist(), signs @ model.encode_text([text], output="continuous")[0], strict=True))
        results = index.search_text(model, text, top_k=7)
        wanted = sorted(scores.values(), reverse=True)[:7]
        assert np.allclose([scores[result.id] for result in results], wanted)
        query = unpack(model.encode_text([text]), model.k_bits)
        for result in results:
            code, metadata = index.rows([result.id])[0]
            assert result.distance == (unpack(code[None], model.k_bits) != query).sum()
            assert result.metadata == metadata
    within = index.search_text(model, "red", top_k=None, radius=int(results[0].distance))
    assert all(result.distance <= results[0].distance for result in within)


def test_every_form_of_a_picture_gives_the_same_results(index, model, tiny_dataset):
    path = tiny_dataset / "7.png"
    picture = Image.open(path)
    wanted = index.search_image(model, path).results
    assert wanted[0].distance == 0
    for form in (str(path), picture, np.array(picture)):
        assert index.search_image(model, form).results == wanted
    tensor = model.image_transform(picture)
    assert index.search_image(model, tensor).results == wanted
    assert index.search_image(model, path, where={"label": "c"}).results[0].id == "0.png"


def test_a_notebook_shows_thumbnails_and_escapes_what_it_quotes(index, model, tiny_dataset):
    results = index.search_image(model, tiny_dataset / "0.png", top_k=60)
    sheet = results._repr_html_()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', sheet)
    assert len(pictures) == len(results) == sheet.count("</figcaption></figure>") == 60
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).format == "JPEG"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in sheet
    assert "a&amp;b, c" in sheet
    assert "<script" not in sheet
    shown = repr(results)
    assert shown.startswith(f"SearchResults(60 rows: {results[0].id!r} at {results[0].distance}, ")
    assert len(shown) < 240


def test_codes_of_another_model_are_refused(index, model):
    other = HashModel(model.encoder, "DCMH", model.k_bits, {}, model.max_words)
    with pytest.raises(InputError, match="codes of another model"):
        index.search_text(other, "red")
