"""What reranking gains and costs: Hamming distance alone, then with the cosine of the candidates' continuous codes.

    python benchmarks/reranking.py MODEL DATASET CODES

CODES is the folder of `math-hash encode MODEL DATASET --output CODES --continuous`. Texts of the query rows search the
other rows' images; a result is relevant if it shares a label with the query. For several numbers of candidates, it
prints the mean precision of the first 20 results and the time per query.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import math_hash
from math_hash.data import read_dataset, split_rows
from math_hash.retrieval import open_index
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.rerank import Reranker

TOP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="run folder")
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("codes", type=Path, help="codes of its images, with continuous ones")
    parser.add_argument("--query-num", type=int, default=500, help="rows whose texts are the queries (500)")
    arguments = parser.parse_args()
    model, data, folder = (
        math_hash.load_model(arguments.model), read_dataset(arguments.dataset), CodesFolder.open(arguments.codes),
    )  # fmt: skip
    split = split_rows(len(data), arguments.query_num, len(data) - arguments.query_num - 1)
    row_of = {name: row for row, name in enumerate(data.images)}
    names = [name for name, _ in folder.rows()]
    database = set(split.database.tolist())
    kept = [i for i, name in enumerate(names) if row_of[name] in database]
    texts = [data.captions[row] for row in split.query]
    codes, continuous = model.encode_text(texts), model.encode_text(texts, output="continuous")
    rerank = Reranker(folder)
    with tempfile.TemporaryDirectory() as work, open_index(Path(work) / "index", model.k_bits) as index:
        index.add([names[i] for i in kept], folder.codes[kept])
        index.save()
        index.search(codes[:1], TOP)
        print(f"{len(kept)} images, {model.k_bits} bits, {len(texts)} texts; precision of the first {TOP}")
        for candidates in (0, 50, 200, 1000):
            start = time.perf_counter()
            neighbors = index.search(codes, candidates or TOP)
            if candidates:
                neighbors = rerank(continuous, neighbors, TOP)
            seconds = (time.perf_counter() - start) / len(texts)
            precision = [
                (data.labels[[row_of[name] for name in row.ids]] @ data.labels[query] > 0).mean()
                for row, query in zip(neighbors, split.query, strict=True)
            ]
            ranking = f"{candidates} candidates" if candidates else "Hamming distance alone"
            print(f"  {ranking:24} {np.mean(precision):.4f}   {1000 * seconds:7.3f} ms per query")


if __name__ == "__main__":
    main()
