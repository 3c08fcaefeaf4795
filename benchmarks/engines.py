"""One search engine over one collection, in a process of its own: what `benchmarks/search.py` starts for each engine.

    OMP_NUM_THREADS=1 python benchmarks/engines.py faiss-flat FOLDER --warm SMALL --bits 64 --top 100

It builds the engine's index of FOLDER's codes or vectors (this package's is opened; search.py has built it), times the
queries, one alone and all in a batch, and prints one line of JSON. The first neighbors go to FOLDER/ENGINE.npz.
"""

import argparse
import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from timing import best

from math_hash.retrieval import open_index

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # queries, top -> distances, rows
SECONDS = 3.0  # that a timed run may take: a slow engine gets fewer queries
SAMPLE = 64  # queries whose neighbors are kept


class Engine(NamedTuple):
    """A search engine.

    Attributes:
        title: its name.
        reads: what it is built from: "codes", "vectors", or "index", the folder of this package's index.
        build: from that and the number of bits, its search.
    """

    title: str
    reads: str
    build: Callable[[Any, int], Search]


def package(options: str) -> Callable[[Path, int], Search]:
    """This package's index, opened with the options of a URI."""

    def build(folder: Path, bits: int) -> Search:
        index = open_index(f"{folder}{options}", bits)

        def search(queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
            neighbors = index.search_batch(queries, top)
            return neighbors.distances, neighbors.ids

        return search

    return build


def faiss_flat(codes: np.ndarray, bits: int) -> Search:
    """FAISS's exact scan of codes."""
    import faiss

    index = faiss.IndexBinaryFlat(bits)
    index.add(codes)
    return index.search


def faiss_multi_hash(codes: np.ndarray, bits: int) -> Search:
    """FAISS's hash tables over parts of 16 bits, of which one may differ; FAISS leaves both numbers to the user."""
    import faiss

    index = faiss.IndexBinaryMultiHash(bits, bits // 16, 16)
    index.nflip = 1
    index.add(codes)
    return index.search


def usearch_exact(codes: np.ndarray, bits: int) -> Search:
    """usearch's exact search, which has no index."""
    from usearch.index import MetricKind, search

    def run(queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        threads = int(os.environ["OMP_NUM_THREADS"])
        matches = search(codes, queries, top, MetricKind.Hamming, exact=True, threads=threads, dtype="b1")
        return matches.distances.reshape(len(queries), -1), matches.keys.reshape(len(queries), -1)

    return run


def faiss_vectors(description: str) -> Callable[[np.ndarray, int], Search]:
    """A FAISS index of vectors, by its factory string."""

    def build(vectors: np.ndarray, bits: int) -> Search:
        import faiss

        index = faiss.index_factory(vectors.shape[1], description)
        index.train(vectors[:100_000])
        index.add(vectors)
        return index.search

    return build


ENGINES = {
    "index": Engine("this package", "index", package("")),
    "scan": Engine("this package, scan", "index", package("?engine=exact&structure=scan")),
    "faiss-flat": Engine("FAISS IndexBinaryFlat", "codes", faiss_flat),
    "faiss-multihash": Engine("FAISS IndexBinaryMultiHash", "codes", faiss_multi_hash),
    "usearch": Engine("usearch, exact", "codes", usearch_exact),
    "faiss-pq": Engine("FAISS PQ16x4fs", "vectors", faiss_vectors("PQ16x4fs")),
    "faiss-rabitq": Engine("FAISS RaBitQfs", "vectors", faiss_vectors("RaBitQfs")),
    "faiss-vectors": Engine("FAISS IndexFlatL2", "vectors", faiss_vectors("Flat")),
}


def held() -> int:
    """Bytes of this process that are in memory, mapped files included, once free memory is returned (Linux, glibc)."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def opened(engine: Engine, folder: Path, bits: int) -> tuple[Search, float]:
    """The engine's search over the collection of a folder, and the seconds that building or opening took."""
    source = folder / "index" if engine.reads == "index" else np.load(folder / f"{engine.reads}.npy")
    start = time.perf_counter()
    return engine.build(source, bits), time.perf_counter() - start


def timings(search: Search, queries: np.ndarray, top: int) -> dict[str, float]:
    """Seconds per query, one at a time and in a batch."""
    once, _ = best(lambda: search(queries[:1], top), 2)
    few = min(50, len(queries), max(3, int(SECONDS / once)))
    alone, _ = best(lambda: [search(queries[i : i + 1], top) for i in range(few)], 5)
    many = max(8, min(len(queries), int(SECONDS * few / alone)))
    batch, _ = best(lambda: search(queries[:many], top), 3)
    return {"alone": alone / few, "batch": batch / many}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder", type=Path, help="the collection")
    parser.add_argument("--warm", type=Path, required=True, help="a small collection, searched first")
    parser.add_argument("--bits", type=int, required=True, help="of a code")
    parser.add_argument("--top", type=int, required=True, help="neighbors per query")
    given = parser.parse_args()
    engine = ENGINES[given.engine]
    queries = np.load(given.folder / ("query_vectors.npy" if engine.reads == "vectors" else "query_codes.npy"))
    warm, _ = opened(engine, given.warm, given.bits)  # loads compiled code, or compiles it
    warm(queries[:SAMPLE], given.top), warm(queries[:1], given.top)
    before = held()
    search, seconds = opened(engine, given.folder, given.bits)
    distances, rows = search(queries[:SAMPLE], given.top)
    print(json.dumps({"built": seconds, "bytes": held() - before, **timings(search, queries, given.top)}))
    np.savez(given.folder / given.engine, distances=distances, rows=rows)


if __name__ == "__main__":
    main()
