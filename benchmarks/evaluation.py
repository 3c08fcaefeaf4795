"""Evaluation compared with the per-query loop of the releases, in one process.

    python benchmarks/evaluation.py [--lists LISTS] [--coco LABELS_ANNOTATION.txt]

The plain loop, per query: a float matrix product for distances, a product of label rows for relevance, a full stable
sort, a cumulative mean. Labels are real where the lists are given (MIRFlickr's split 2,000 / 18,015), and otherwise
random with the same density. Codes are random: the cost of ranking does not depend on them.
"""

import argparse
import resource
from pathlib import Path

import numpy as np
from timing import best

from math_hash.evaluation import average_precision, ranking_metrics
from math_hash.hamming.codes import pack
from math_hash.hamming.threads import most_threads


def plain_loop(query: np.ndarray, database: np.ndarray, query_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AP of each query as the releases compute it, with a stable sort. Codes float -1/+1, labels float 0/1."""
    precision = np.zeros(len(query))
    for q in range(len(query)):
        relevant = (query_labels[q] @ labels.T > 0).astype(np.float32)
        total = int(relevant.sum())
        if total == 0:
            continue
        distances = 0.5 * (query.shape[1] - query[q] @ database.T)
        ranked = relevant[np.argsort(distances, kind="stable")]
        ranks = np.flatnonzero(ranked == 1) + 1.0
        precision[q] = np.mean(np.arange(1, total + 1) / ranks)
    return precision


def compare(name: str, query_labels: np.ndarray, labels: np.ndarray, sample: int, k_bits: int = 64) -> None:
    """Print both times for one size. The plain loop runs on `sample` queries and is scaled to all of them."""
    rng = np.random.default_rng(0)
    bits = [rng.integers(0, 2, (len(part), k_bits), dtype=np.uint8) for part in (query_labels, labels)]
    signs = [2 * part.astype(np.float32) - 1 for part in bits]
    queries, database = (pack(part) for part in bits)
    floats = [part.astype(np.float32) for part in (query_labels, labels)]

    def alone() -> np.ndarray:
        return average_precision(queries, database, query_labels, labels)

    def everything() -> object:
        return ranking_metrics(queries, database, query_labels, labels)

    for warm in (alone, everything):
        warm()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fast, precision = best(alone, 7)
    full, _ = best(everything, 7)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    slow, expected = best(lambda: plain_loop(signs[0][:sample], signs[1], floats[0][:sample], floats[1]), 2)
    slow *= len(query_labels) / sample
    copied, _ = best(database.copy, 7)
    reading = copied / 2 * len(query_labels) / most_threads()
    pairs = len(query_labels) * len(labels)
    print(f"{name}: {len(query_labels):,} x {len(labels):,}, {k_bits} bits, {most_threads()} threads")
    print(f"  mAP@all, this package      {fast:9.3f} s   {pairs / fast / 1e6:,.0f} million pairs/s")
    print(f"  mAP@all, per-query loop    {slow:9.3f} s   ratio {slow / fast:.0f} (from {sample} queries)")
    print(f"  largest difference of AP   {np.abs(precision[:sample] - expected).max():.1e}")
    print(f"  all metrics in one call    {full:9.3f} s   {full / fast:.2f} times mAP alone")
    print(f"  reading the codes per query{reading:9.3f} s   mAP takes {fast / reading:.0f} times that")
    print(f"  memory beyond the warm-up  {grown:9.0f} MB, whole process {before / 1024 + grown:.0f} MB\n")


def read_label_names(path: Path) -> np.ndarray:
    """Labels uint8 (n, c) from lines of label names separated by commas."""
    rows = [[name for name in line.strip().split(",") if name] for line in path.read_text().splitlines()]
    columns = {name: column for column, name in enumerate(sorted({name for row in rows for name in row}))}
    labels = np.zeros((len(rows), len(columns)), np.uint8)
    for row, names in enumerate(rows):
        labels[row, [columns[name] for name in names]] = 1
    return labels


def split(labels: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the queries and of the database, by the releases' permutation."""
    order = np.random.RandomState(1).permutation(len(labels))
    return labels[order[:queries]], labels[order[queries:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=Path, help="folder with MIRFlickr's labels_annotation.txt")
    parser.add_argument("--coco", type=Path, help="labels_annotation.txt of COCO")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    if arguments.lists:
        labels = read_label_names(arguments.lists / "labels_annotation.txt")
    else:
        labels = (rng.random((20015, 24)) < 0.16).astype(np.uint8)
    compare("flickr25k", *split(labels, 2000), sample=500)
    if arguments.coco:
        labels = read_label_names(arguments.coco)
        labels = labels[labels.any(axis=1)]
    else:
        labels = (rng.random((122218, 80)) < 0.036).astype(np.uint8)
    compare("coco", *split(labels, 5000), sample=100)


if __name__ == "__main__":
    main()
