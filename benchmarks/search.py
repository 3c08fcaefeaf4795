"""Exact search of the embedded index compared with FAISS's exact binary index, in one process.

    python benchmarks/search.py [--rows 1000000] [--queries 2000] [--folder DIR]

Codes of 64 bits, clustered (around 2,000 centers, each bit flipped with probability .08) and structureless; top 100.
It prints the queries per second in batches and the milliseconds of one query alone, their ratios to
`faiss.IndexBinaryFlat` for the same distances, the share of the machine's read bandwidth that one query alone uses, and
the time of adding and opening.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from timing import best

from math_hash.retrieval import open_index

Draw = Callable[[int], np.ndarray]  # n -> packed codes, uint8 (n, 8)


def clustered(rng: np.random.Generator) -> Draw:
    centers = rng.integers(0, 256, (2000, 8), dtype=np.uint8)
    return lambda n: centers[rng.integers(0, 2000, n)] ^ np.packbits(rng.random((n, 64)) < 0.08, axis=1)


def structureless(rng: np.random.Generator) -> Draw:
    return lambda n: rng.integers(0, 256, (n, 8), dtype=np.uint8)


def draw(make: Draw, rows: int) -> np.ndarray:
    """Packed codes, drawn a million at a time."""
    return np.concatenate([make(min(10**6, rows - start)) for start in range(0, rows, 10**6)])


_MEMORY = """
import sys, numpy as np
from pathlib import Path
from math_hash.retrieval import open_index
def held():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024
with open_index(sys.argv[2]) as warm:
    warm.search(np.zeros((9, 8), np.uint8), 100), warm.search(np.zeros((1, 8), np.uint8), 100)
before = held()
index = open_index(sys.argv[1])
index.search(np.zeros((100, 8), np.uint8), 100)
print(held() - before)
"""


def memory(path: Path, warm: Path) -> int:
    """The bytes that opening and searching an index adds to a fresh process, mapped files included."""
    done = subprocess.run([sys.executable, "-c", _MEMORY, path, warm], capture_output=True, text=True, check=True)
    return int(done.stdout)


def read_bandwidth() -> float:
    """Bytes per second that one thread reads."""
    block = np.ones(25_000_000)
    return block.nbytes / best(block.sum, 5)[0]


def compare(kind: Callable[[np.random.Generator], Draw], rows: int, asked: int, folder: Path, bandwidth: float) -> None:
    """Print both engines' times for one kind of codes."""
    make = kind(np.random.default_rng(0))
    codes, queries = draw(make, rows), make(asked)
    path, ids = folder / kind.__name__, np.arange(rows)
    with open_index(path, 64) as index:
        start = time.perf_counter()
        for first in range(0, rows, 10**6):
            index.add(ids[first : first + 10**6], codes[first : first + 10**6])
        index.save()
        added = time.perf_counter() - start
    start = time.perf_counter()
    index = open_index(path)
    opened = time.perf_counter() - start
    flat = faiss.IndexBinaryFlat(64)
    flat.add(codes)
    used = memory(path, folder / "warm") / codes.nbytes
    ours, neighbors = best(lambda: index.search(queries, 100), 3)
    alone, _ = best(lambda: [index.search(queries[i : i + 1], 100) for i in range(100)], 3)
    theirs, (distances, _) = best(lambda: flat.search(queries, 100), 2)
    theirs_alone, _ = best(lambda: [flat.search(queries[i : i + 1], 100) for i in range(100)], 2)
    same = all((mine.distances == row).all() for mine, row in zip(neighbors, distances, strict=True))
    rate = codes.nbytes / (alone / 100)
    print(
        f"\n{kind.__name__}: added and saved in {added:.1f} s, opened in {opened:.2f} s, memory {used:.1f} times the "
        f"codes while searching\n"
        f"  in batches  {asked / ours:9.0f} queries/s   FAISS {asked / theirs:8.0f}   ratio {theirs / ours:5.1f}\n"
        f"  alone       {10 * alone:9.3f} ms          FAISS {10 * theirs_alone:8.3f}   "
        f"ratio {theirs_alone / alone:5.1f}\n"
        f"  same distances: {same};  alone reads {rate / 1e9:.1f} GB/s, {rate / bandwidth:.1f} times one thread's rate"
    )
    index.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6, help="codes in the index (1000000)")
    parser.add_argument("--queries", type=int, default=2000, help="queries per batch (2000)")
    parser.add_argument("--folder", type=Path, help="where the index is written (default: a temporary folder)")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    bandwidth = read_bandwidth()
    print(f"{arguments.rows} codes of 64 bits, {os.cpu_count()} threads, one thread reads {bandwidth / 1e9:.1f} GB/s")
    with open_index(folder / "warm", 64) as index:  # loads the compiled code, or compiles it
        index.add(range(100_000), np.zeros((100_000, 8), np.uint8))
        index.search(np.zeros((9, 8), np.uint8), 100)
        index.search(np.zeros((1, 8), np.uint8), 100)
    for kind in (clustered, structureless):
        compare(kind, arguments.rows, arguments.queries, folder, bandwidth)
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
