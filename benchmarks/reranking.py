"""What a second look at candidates brings and costs: Hamming distance alone, then with the cosine of continuous codes.

    python benchmarks/reranking.py MODEL DATASET CODES

CODES is the folder of `math-hash encode MODEL DATASET --output CODES --continuous`. Texts of the query rows search the
other rows' pictures; a result is relevant where it shares a label. Printed are the mean precision of the first 20
results and the time of a query, for several numbers of candidates.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import math_hash
from math_hash.data import read_dataset, split_rows
from math_hash.retrieval import open_index
from math_hash.retrieval.encode import CodesFolder
from math_hash.retrieval.rerank import Reranker

TOP = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="run folder")
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("codes", type=Path, help="codes of its pictures, with continuous ones")
    parser.add_argument("--query-num", type=int, default=500, help="rows whose texts ask (500)")
    arguments = parser.parse_args()
    model, data, folder = (
        math_hash.load_model(arguments.model), read_dataset(arguments.dataset), CodesFolder.open(arguments.codes),
    )  # fmt: skip
    split = split_rows(len(data), arguments.query_num, len(data) - arguments.query_num - 1)
    place = {name: row for row, name in enumerate(data.images)}
    names = [name for name, _ in folder.rows()]
    kept = [i for i, name in enumerate(names) if place[name] in set(split.database.tolist())]
    texts = [data.captions[row] for row in split.query]
    codes, continuous = model.encode_text(texts), model.encode_text(texts, output="continuous")
    rerank = Reranker(folder)
    with tempfile.TemporaryDirectory() as work, open_index(Path(work) / "index", model.k_bits) as index:
        index.add([names[i] for i in kept], folder.codes[kept])
        index.save()
        index.search(codes[:1], TOP)
        print(f"{len(kept)} pictures, {model.k_bits} bits, {len(texts)} texts; precision of the first {TOP}")
        for candidates in (0, 50, 200, 1000):
            start = time.perf_counter()
            found = index.search(codes, candidates or TOP)
            if candidates:
                found = rerank(continuous, found, TOP)
            seconds = (time.perf_counter() - start) / len(texts)
            right = [
                (data.labels[[place[name] for name in some.ids]] @ data.labels[row] > 0).mean()
                for some, row in zip(found, split.query, strict=True)
            ]
            what = f"{candidates} candidates" if candidates else "Hamming distance alone"
            print(f"  {what:24} {np.mean(right):.4f}   {1000 * seconds:7.3f} ms a query")


if __name__ == "__main__":
    main()
