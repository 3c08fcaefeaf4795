"""Search engines over one collection: this package's index, FAISS and usearch, each in a process of its own.

    python benchmarks/search.py [--rows 1000000] [--bits 64] [--kinds clustered structureless] [--engines NAME ...]

The collection: vectors of 64 floats, structureless (normal) or clustered (around 2,000 centers, at such distances that
a sign differs from its center's with probability .08), and as codes the signs of their first `--bits` numbers. Each
process has one engine and one number of threads, reads the collection from files, and searches it while this one waits;
OpenMP's idle threads sleep. It needs FAISS and usearch: pip install -e ".[bench]".
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from engines import ENGINES
from timing import best

from math_hash.hamming.codes import pack
from math_hash.retrieval import open_index

WIDTH, CENTERS, SPREAD = 64, 2000, math.tan(0.08 * math.pi)
KINDS = ("clustered", "structureless")
TOP, TOP_RECALL = 100, 10
Figures = dict[str, float]


def write(folder: Path, kind: str, rows: int, queries: int, bits: int, with_vectors: bool) -> None:
    """Write the codes of rows and queries, and their vectors, drawn a million at a time."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CENTERS, WIDTH), dtype=np.float32)
    for prefix, count in (("query_", queries), ("", rows)):
        codes = np.lib.format.open_memmap(folder / f"{prefix}codes.npy", "w+", np.uint8, (count, bits // 8))
        if with_vectors:
            shape = (count, WIDTH)
            all_vectors = np.lib.format.open_memmap(folder / f"{prefix}vectors.npy", "w+", np.float32, shape)
        for start in range(0, count, 10**6):
            size = min(10**6, count - start)
            vectors = rng.standard_normal((size, WIDTH), dtype=np.float32)
            if kind == "clustered":
                vectors = centers[rng.integers(0, CENTERS, size)] + np.float32(SPREAD) * vectors
            codes[start : start + size] = pack(vectors[:, :bits] >= 0)
            if with_vectors:
                all_vectors[start : start + size] = vectors


def build_index(folder: Path, bits: int) -> float:
    """Build this package's index, with the row numbers as ids. Returns the seconds."""
    codes, start = np.load(folder / "codes.npy", mmap_mode="r"), time.perf_counter()
    with open_index(folder / "index", bits) as index:
        for first in range(0, len(codes), 10**6):
            some = codes[first : first + 10**6]
            index.add(range(first, first + len(some)), some)
        index.save()
    return time.perf_counter() - start


def run(engine: str, folder: Path, warm: Path, bits: int, threads: int) -> Figures:
    """What a process with this engine measured."""
    counts = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "NUMBA", "MKL", "OPENBLAS")}
    command = [sys.executable, str(Path(__file__).with_name("engines.py")), engine, str(folder)]
    command += ["--warm", str(warm), "--bits", str(bits), "--top", str(TOP)]
    environment = {**os.environ, **counts, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def recalls(engine: str, folder: Path) -> str:
    """The share of the ten nearest codes, and of the ten nearest vectors, that an engine finds; "-" where unknown."""
    found, codes, vectors = np.load(folder / f"{engine}.npz"), "-", "-"
    if ENGINES[engine].reads != "vectors" and (folder / "faiss-flat.npz").exists():
        farthest = np.load(folder / "faiss-flat.npz")["distances"][:, TOP_RECALL - 1, None]
        codes = f"{(found['distances'][:, :TOP_RECALL] <= farthest).mean():.3f}"  # of a tie, any row is right
    if (folder / "faiss-vectors.npz").exists():
        pairs = zip(found["rows"], np.load(folder / "faiss-vectors.npz")["rows"], strict=True)
        vectors = f"{np.mean([np.isin(right[:TOP_RECALL], row[:TOP_RECALL]).mean() for row, right in pairs]):.3f}"
    return f"{codes:>7} {vectors:>8}"


def report(figures: dict[tuple[str, int], Figures], folder: Path, rows: int) -> None:
    """Print a line per engine, and the ratios to FAISS's exact scan, one thread each."""
    numbers = sorted({threads for _, threads in figures})
    print(f"  {'':26} {'':16}", *(f"{f'{n} threads' if n > 1 else 'one thread':>19}" for n in numbers), " recall@10 of")
    print(
        f"  {'':26} {'bytes/row':>9} {'built':>6}", *(f"{'alone':>9} {'batch':>9}" for _ in numbers), "  codes  vectors"
    )
    for engine in dict.fromkeys(engine for engine, _ in figures):
        first = figures[engine, 1]
        times = [
            f"{1000 * figures[engine, n]['alone']:6.2f} ms {1 / figures[engine, n]['batch']:7.0f}/s" for n in numbers
        ]
        print(
            f"  {ENGINES[engine].title:26} {first['bytes'] / rows:9.1f} {first['built']:4.1f} s",
            *times,
            recalls(engine, folder),
        )
    codes = (folder / "codes.npy").stat().st_size - 128
    for engine in ("index", "scan"):
        if (engine, 1) in figures and ("faiss-flat", 1) in figures:
            ours, theirs = figures[engine, 1], figures["faiss-flat", 1]
            pair = [np.load(folder / f"{name}.npz")["distances"] for name in (engine, "faiss-flat")]
            print(
                f"  {ENGINES[engine].title}: per thread {theirs['batch'] / ours['batch']:.1f} times as fast as FAISS "
                f"IndexBinaryFlat in batches,\n    {theirs['alone'] / ours['alone']:.1f} times alone; same distances: "
                f"{np.array_equal(*pair)}; alone: {codes / ours['alone'] / 1e9:.1f} GB of codes per second"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6, help="codes in the collection (1000000)")
    parser.add_argument("--bits", type=int, choices=(16, 32, 48, 64), default=64, help="of a code (64)")
    parser.add_argument("--queries", type=int, default=1000, help="queries per batch (1000); slow engines get fewer")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of collections (both)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME",
                        help=f"{' '.join(ENGINES)} (all)")  # fmt: skip
    given = parser.parse_args()
    with_vectors = any(ENGINES[engine].reads == "vectors" for engine in given.engines)
    block = np.ones(25_000_000)
    print(f"one thread reads {block.nbytes / best(block.sum, 5)[0] / 1e9:.1f} GB/s")
    with tempfile.TemporaryDirectory() as name:
        warm = Path(name) / "warm"
        write(warm, "structureless", 100_000, 64, given.bits, with_vectors)
        build_index(warm, given.bits)
        for kind in given.kinds:
            folder = Path(name) / kind
            write(folder, kind, given.rows, given.queries, given.bits, with_vectors)
            built = build_index(folder, given.bits)
            figures = {
                (engine, threads): run(engine, folder, warm, given.bits, threads)
                for engine in given.engines
                for threads in sorted({1, os.cpu_count() or 1})
            }
            print(f"\n{kind}: {given.rows} rows, {given.bits} bits; this package's index was built in {built:.1f} s")
            report(figures, folder, given.rows)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
