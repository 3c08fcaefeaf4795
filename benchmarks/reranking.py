"""What reranking gains and costs: Hamming distance alone, and candidates ordered by what tells more of them apart.

    python benchmarks/reranking.py RUN

RUN is a run folder; its dataset, split and features are read again. Texts of the query rows search images, and images
search texts. Precision is the mean share of the first 20 results that have a label in common with the query, among the
rows of the database; recall is the share of queries whose own partner is among the first 10 of all queries' partners.
Rows are in the dataset's order, so that ties favor neither training rows nor partners. The time is that of one query at
a time in the database, encoding left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from math_hash.config import Config
from math_hash.data import load_batches
from math_hash.hamming.asymmetric import asymmetric_scores
from math_hash.hamming.codes import binarize, pack
from math_hash.hamming.int8 import as_int8
from math_hash.models.model import HashModel
from math_hash.retrieval import open_index
from math_hash.retrieval.index import Index, Neighbors
from math_hash.retrieval.rerank import asymmetric_scorer, reranked
from math_hash.training.run_folder import Run
from math_hash.training.setup import Data, open_data

BATCH = 256
Rank = Callable[[int, int], np.ndarray]  # number of a query, and how many rows: the first rows


@dataclass
class Stream:
    """What a model makes of one modality of all rows: continuous codes (n, k), packed ones, vectors as int8 (n, d)."""

    continuous: np.ndarray
    packed: np.ndarray
    vectors: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    run = Run(parser.parse_args().run)
    model, saved = run.load_model(), run.read_config()
    assert isinstance(model, HashModel)
    data = open_data(Config(**{item.name: saved[item.name] for item in fields(Config) if item.name in saved}))
    streams = encode(model, data)
    query = data.split.query
    print(f"{model.method}, {model.k_bits} bits, {data.folder.path.name}: {len(query)} queries of each modality")
    for asked, given in (("text", "image"), ("image", "text")):
        print(f"\n{asked}->{given}{'':28} precision at 20   recall at 10   per query")
        with tempfile.TemporaryDirectory() as work:
            database, partners = (
                rankings(index_of(Path(work) / name, model, streams[given].packed, np.sort(rows)), streams[asked],
                         streams[given], model.encoder.takes_pictures)
                for name, rows in (("database", data.split.database), ("partners", query))
            )  # fmt: skip
            for name, rank in database.items():
                start = time.perf_counter()
                results = [rank(row, 20) for row in query]
                milliseconds = 1000 * (time.perf_counter() - start) / len(query)
                precision = np.mean([shares_label(data, row, rows) for row, rows in zip(query, results, strict=True)])
                recall = np.mean([row in partners[name](row, 10) for row in query])
                print(f"  {name:36}{precision:14.4f}{recall:15.4f}{milliseconds:9.2f} ms")


def encode(model: HashModel, data: Data) -> dict[str, Stream]:
    """Both modalities of all rows of a dataset."""
    batches = [np.arange(start, min(start + BATCH, len(data.folder))) for start in range(0, len(data.folder), BATCH)]
    parts: dict[str, list[Any]] = {"image": [], "text": []}
    with torch.inference_mode():
        for inputs in load_batches(data.pairs(model).with_streams(("image", "text")), batches):
            for modality in ("image", "text"):
                codes, vectors = model.hash_with_vectors(modality, inputs[modality])
                parts[modality].append((codes.numpy(), as_int8(vectors.numpy())))
    streams = {}
    for modality, outputs in parts.items():
        continuous, int8 = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
        streams[modality] = Stream(continuous, pack(binarize(continuous)), int8)
    return streams


def index_of(path: Path, model: HashModel, packed: np.ndarray, rows: np.ndarray) -> Index:
    """An index of some rows, by their numbers."""
    index = open_index(path, model.k_bits)
    index.add(rows, packed[rows])
    index.save()
    return index


def rankings(index: Index, asked: Stream, given: Stream, one_space: bool) -> dict[str, Rank]:
    """The ways to rank an index, by name. `one_space`: images' and texts' encoder vectors can be compared."""
    asymmetric = asymmetric_scorer(index.codes_of)
    everything = index.search(asked.packed[:1], len(index))[0].ids
    everything.sort()
    packed = index.codes_of(everything)

    def near(query: int, count: int) -> np.ndarray:
        return index.search(asked.packed[query][None], count)[0].ids

    def candidates(number: int, scores: Callable[[int, Neighbors], np.ndarray]) -> Rank:
        def rank(query: int, count: int) -> np.ndarray:
            [found] = index.search(asked.packed[query][None], max(number, count))
            return reranked(found, scores(query, found)).ids[:count]

        return rank

    def cosine(values: np.ndarray, query: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        return (values @ query) / np.linalg.norm(values, axis=1)

    def whole(query: int, count: int) -> np.ndarray:
        scores = asymmetric_scores(asked.continuous[query][None], packed)[0]
        return everything[np.argsort(-scores, kind="stable")[:count]]

    ways: dict[str, Rank] = {"Hamming distance alone": near}
    for number in (50, 200, 1000):
        ways[f"asymmetric, {number} candidates"] = candidates(
            number, lambda q, found: asymmetric(asked.continuous[q], found)
        )
    ways["asymmetric, all rows"] = whole
    for number in (200, 1000):
        ways[f"continuous codes, {number} candidates"] = candidates(
            number, lambda q, found: cosine(given.continuous[found.ids], asked.continuous[q])
        )
        if one_space:
            ways[f"int8 vectors, {number} candidates"] = candidates(
                number, lambda q, found: cosine(given.vectors[found.ids], asked.vectors[q].astype(np.float32))
            )
    return ways


def shares_label(data: Data, query: int, rows: np.ndarray) -> np.ndarray:
    """Whether rows share a label with a query, bool (n,)."""
    return data.folder.labels[rows] @ data.folder.labels[query] > 0


if __name__ == "__main__":
    main()
