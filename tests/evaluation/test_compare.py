"""Entries of a comparison against FAISS, the package's Hamming kernels and plain loops."""

import faiss
import numpy as np
import pytest

from math_hash.evaluation import cosine_mean_average_precision, mean_average_precision, precision_at
from math_hash.evaluation.chance_level import chance_level
from math_hash.evaluation.compare import CANDIDATES, Task, bits_entry, measure
from math_hash.evaluation.compare_report import sentences
from math_hash.evaluation.own_pair_recall import own_pair_recall
from math_hash.evaluation.quantizers import centered, faiss_entries, float_entry, unit, vector_entries
from math_hash.hamming.codes import pack

QUERY, DATABASE, TRAIN = np.arange(40), np.arange(40, 400), np.arange(60, 360)


@pytest.fixture(scope="module")
def vectors():
    """400 rows whose images and texts share 12 directions of 28, each modality away from the origin."""
    rng = np.random.default_rng(3)
    hidden, maps = rng.standard_normal((400, 12)), rng.standard_normal((12, 28))
    noise = {name: rng.standard_normal((400, 28)) + 2 * rng.standard_normal(28) for name in ("image", "text")}
    return {name: (hidden @ maps + values).astype(np.float32) for name, values in noise.items()}


@pytest.fixture(scope="module")
def task():
    return Task((np.random.default_rng(4).random((400, 5)) < 0.2).astype(np.uint8), QUERY, DATABASE, TRAIN)


def units(vectors, modality):
    return vectors[modality] / np.linalg.norm(vectors[modality], axis=1, keepdims=True)


@pytest.fixture(scope="module")
def entries(vectors):
    return {entry.name: entry for entry in (*vector_entries(vectors, TRAIN), *faiss_entries(vectors, TRAIN))}


def plain_precision(relevant):
    hits = np.flatnonzero(relevant)
    return np.mean([(i + 1) / (rank + 1) for i, rank in enumerate(hits)]) if len(hits) else 0.0


def test_binary_codes_have_the_figures_of_the_hamming_metrics(vectors, task):
    codes = {name: values[:, :11] for name, values in vectors.items()}
    found = measure(bits_entry("codes", codes), task)["plain"]
    packed = {name: pack(values >= 0) for name, values in codes.items()}
    for direction in ("image->text", "text->image"):
        a, b = direction.split("->")
        data = (packed[a][QUERY], packed[b][DATABASE], task.labels[QUERY], task.labels[DATABASE])
        assert found[direction]["mAP"] == pytest.approx(mean_average_precision(*data, k_bits=11))
        assert found[direction]["precision@20"] == pytest.approx(precision_at(*data, at=20, k_bits=11).mean())
        own = own_pair_recall(packed[a][QUERY], packed[b][QUERY], QUERY, k_bits=11)
        assert found[direction]["own_pair_recall@10"] == pytest.approx(own[10])
        others = DATABASE[~np.isin(DATABASE, TRAIN)]
        data = (packed[a][QUERY], packed[b][others], task.labels[QUERY], task.labels[others])
        assert found[direction]["mAP_other_rows"] == pytest.approx(mean_average_precision(*data, k_bits=11))


def test_reranking_orders_the_nearest_200_by_the_query_values_times_the_bits(vectors, task):
    codes = {name: np.tanh(values[:, :9]) for name, values in vectors.items()}
    found = measure(bits_entry("codes", codes), task)["reranked"]["image->text"]
    signs = np.where(codes["text"][DATABASE] >= 0, 1, -1)
    precision, first = [], []
    for row in QUERY:
        query = codes["image"][row]
        distance = (signs != np.where(query >= 0, 1, -1)).sum(axis=1)
        near = np.argsort(distance, kind="stable")
        score = [sum(q * bit for q, bit in zip(query, signs[i], strict=True)) for i in near[:CANDIDATES]]
        order = [*near[:CANDIDATES][np.argsort(-np.float32(score), kind="stable")], *near[CANDIDATES:]]
        relevant = [bool((task.labels[row] & task.labels[DATABASE[i]]).any()) for i in order]
        precision.append(plain_precision(relevant))
        first.append(np.mean(relevant[:20]))
    assert found["mAP"] == pytest.approx(np.mean(precision), abs=1e-4)
    assert found["precision@20"] == pytest.approx(np.mean(first), abs=1e-3)


def test_float_vectors_have_the_figure_of_the_cosine(vectors, task):
    found = measure(float_entry("float32", vectors), task)
    assert list(found) == ["plain"]
    expected = cosine_mean_average_precision(
        vectors["text"][QUERY], vectors["image"][DATABASE], task.labels[QUERY], task.labels[DATABASE]
    )
    assert found["plain"]["text->image"]["mAP"] == pytest.approx(expected)


def test_int8_and_sign_bits_are_what_numpy_computes(vectors, entries):
    query, rows = units(vectors, "image"), units(vectors, "text")
    steps = np.abs(rows).max(axis=1, keepdims=True) / 127
    rounded = np.rint(rows / steps) * steps
    cosine = query @ (rounded / np.linalg.norm(rounded, axis=1, keepdims=True)).T
    int8 = entries["int8"]
    assert np.allclose(int8.score(int8.query["image"], int8.stored["text"]), cosine, atol=1e-6)
    for name, shift in (("sign bits", 0), ("centered sign bits", 1)):
        a, b = (values - shift * values[TRAIN].mean(axis=0) for values in (query, rows))
        distance = ((a >= 0)[:, None] != (b >= 0)).sum(axis=2)
        entry = entries[name]
        assert (entry.score(entry.query["image"], entry.stored["text"]) == 28 - 2 * distance).all()
        assert np.allclose(
            entry.rerank(entry.query["image"], entry.stored["text"]), a @ np.where(b >= 0, 1, -1).T, atol=1e-5
        )
    assert {name: entries[name].bytes_per_item for name in ("float32", "int8", "sign bits")} == {
        "float32": 112, "int8": 28, "sign bits": 4,
    }  # fmt: skip


def padded(vectors):
    """Unit vectors as FAISS gets them: 32 wide, of which 8 bytes code 4 each."""
    wide = {name: np.pad(unit(values), ((0, 0), (0, 4))) for name, values in vectors.items()}
    return wide, centered(wide, TRAIN)


@pytest.mark.parametrize(("name", "factory"), [("PQ", "PQ8"), ("OPQ", "OPQ8,PQ8"), ("RaBitQ", "RR,RaBitQ")])
def test_quantizers_score_as_an_index_of_faiss_does(vectors, entries, name, factory):
    entry = entries[name]
    scores = entry.score(entry.query["image"][QUERY], entry.stored["text"][DATABASE])
    wide, residuals = padded(vectors)
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    coder = faiss.downcast_index(index.index) if "," in factory else index
    if name != "RaBitQ":
        coder.do_polysemous_training = False  # slow, and changes no score
    index.train(np.concatenate([residuals[modality][TRAIN] for modality in ("image", "text")]))
    index.add(residuals["text"][DATABASE])
    if name == "RaBitQ":
        coder.qb = 0  # the query stays float
    expected, rows = index.search(wide["image"][QUERY], len(DATABASE))
    if name != "OPQ":  # whose rotation starts at random
        assert np.allclose(np.take_along_axis(scores, rows, axis=1), expected, atol=1e-5)
    exact = wide["image"][QUERY] @ residuals["text"][DATABASE].T
    np.put_along_axis(unordered := np.empty_like(expected), rows, expected, axis=1)
    errors = [np.abs(values - exact).mean() for values in (scores, unordered)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert entry.bytes_per_item == (4 + 8 if name == "RaBitQ" else 8)


def test_chance_is_what_random_codes_score(task):
    rng, chance = np.random.default_rng(5), task.chance()
    runs = []
    for _ in range(20):
        codes = {name: rng.standard_normal((400, 32)) for name in ("image", "text")}
        figures = measure(bits_entry("random", codes), task)["plain"]
        runs += [[figures[direction][name] for name in chance] for direction in figures]
    assert np.mean(runs, axis=0) == pytest.approx(list(chance.values()), abs=0.015)


def test_unseen_labels_leave_the_rows_that_have_one(task):
    part = task.on_labels((1, 3))
    assert part.query.tolist() == [row for row in QUERY if task.labels[row, [1, 3]].any()]
    assert part.chance()["mAP"] == pytest.approx(
        chance_level(task.labels[part.query][:, [1, 3]], task.labels[part.database][:, [1, 3]])
    )


def test_what_reranking_gives_learned_codes_is_said_apart_from_what_it_gives_others():
    def row(name, form, recall):
        return {"name": name, "bytes": 8, "form": form, "mAP": 0.6, "own_pair_recall@10": recall}

    rows = [row("float32", "plain", 0.5)]
    for name, gain in (("MATH", 0.01), ("PCA", 0.3), ("ITQ", 0.1), ("classifier bits", 0.2)):
        rows += [row(name, "plain", 0.1), row(name, "reranked", 0.1 + gain)]
    said = sentences({"rows": rows, "method": "MATH", "chance": {"mAP": 0.4, "own_pair_recall@10": 0.01}})
    assert [line.split("by: ")[1] for line in said if line.startswith("Reranking")] == [
        "mAP +0.000, own-pair recall@10 +0.010.", "mAP +0.000, own-pair recall@10 +0.200.",
    ]  # fmt: skip
