"""Approximate search with FAISS: an inverted file over binary codes, for some ten million codes and more.

Codes are grouped around `nlist` centres and a query looks into the `nprobe` nearest groups. How much that misses
depends on the codes: clustered ones lose next to nothing, structureless ones most. So recall is measured when the
index is built.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import import_extra
from math_hash.retrieval.uri import IvfOptions

_NPROBE = 8
_SAMPLE, _TOP = 200, 10


class Ivf:
    """An approximate index over the rows of a snapshot.

    Attributes:
        index: FAISS's `IndexBinaryIVF`.
        nlist: number of groups.
        recall: share of the true 10 nearest rows that it finds, measured when it was built.
    """

    def __init__(self, index: Any, nlist: int, recall: float):
        self.index, self.nlist, self.recall = index, nlist, recall

    def nearest(self, queries: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (-1 where none was found) and distances, as `scan.nearest` gives them."""
        padded = np.zeros((len(queries), self.index.d // 8), np.uint8)
        padded[:, : queries.shape[1]] = queries
        distances, rows = self.index.search(padded, top_k)
        return rows, np.where(rows < 0, 65535, distances).astype(np.uint16)

    def remove(self, rows: np.ndarray) -> None:
        """Stop returning these rows."""
        import faiss

        self.index.remove_ids(faiss.IDSelectorBatch(rows.astype(np.int64)))


def is_outdated(options: IvfOptions | None, built: Ivf | None) -> bool:
    """Whether the approximate index has to be built: it is wanted, and is missing or has another `nlist`."""
    if options is None:
        return False
    return built is None or options.nlist not in (None, built.nlist)


def build(path: Path, codes: np.ndarray, k_bits: int, options: IvfOptions) -> dict[str, Any]:
    """Build an approximate index, write it, and measure its recall: rows of its own are the queries, and each is left
    out of its own results.

    Args:
        codes: uint64 (words, n).

    Returns:
        nlist, nprobe and recall.
    """
    from math_hash.hamming import scan  # numba: adding rows does without

    faiss = import_extra("faiss", "search", path)
    rows = np.ascontiguousarray(codes.T).view(np.uint8)  # (n, bytes)
    nlist = min(options.nlist or max(1, int(4 * len(rows) ** 0.5)), max(1, len(rows) // 39))
    nprobe = min(options.nprobe or _NPROBE, nlist)
    quantizer = faiss.IndexBinaryFlat(rows.shape[1] * 8)
    index = faiss.IndexBinaryIVF(quantizer, rows.shape[1] * 8, nlist)
    rng = np.random.default_rng(0)
    index.train(rows[np.sort(rng.permutation(len(rows))[: 64 * nlist])])
    index.add(rows)
    faiss.write_index_binary(index, str(path))
    index.nprobe = nprobe
    queries = rows[rng.permutation(len(rows))[:_SAMPLE]]
    top = min(_TOP + 1, len(rows))
    _, exact = scan.nearest(queries, codes, k_bits, top)
    distances, _ = index.search(queries, top)
    right = (distances[:, 1:] <= exact[:, -1:].astype(np.int64)).sum() if top > 1 else 1
    return {"nlist": nlist, "nprobe": nprobe, "recall": float(right / max(1, len(queries) * (top - 1)))}


def read(path: Path, built: Mapping[str, Any], options: IvfOptions) -> Ivf:
    """Read an approximate index whose checksum the caller has compared.

    Args:
        built: what `build` returned.
    """
    index = import_extra("faiss", "search", path).read_index_binary(str(path))
    index.nprobe = options.nprobe or built["nprobe"]
    return Ivf(index, built["nlist"], built["recall"])
