"""Approximate search with FAISS: an inverted file over binary codes, for some ten million codes and more.

Codes are grouped around `nlist` centres and a query looks into the `nprobe` nearest groups. How much that misses
depends on the codes: clustered ones lose next to nothing, structureless ones most. So recall is measured when it is
built.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import import_extra
from math_hash.hamming import scan

_SAMPLE, _TOP = 200, 10


def is_outdated(options: Mapping[str, Any] | None, built: "Ivf | None") -> bool:
    """Whether the approximate index has to be built: it is wanted, and is missing or of another `nlist`."""
    return bool(options) and (built is None or options.get("nlist", built.facts["nlist"]) != built.facts["nlist"])


def build(path: Path, codes: np.ndarray, k_bits: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Build and write it; measure its recall on rows of its own, each left out of what it finds.

    Args:
        codes: uint64 (words, n).

    Returns:
        nlist, nprobe and recall.
    """
    faiss = import_extra("faiss", "search", path)
    rows = np.ascontiguousarray(codes.T).view(np.uint8)  # (n, bytes)
    nlist = min(options.get("nlist") or max(1, int(4 * len(rows) ** 0.5)), max(1, len(rows) // 39))
    nprobe = min(options.get("nprobe", 8), nlist)
    quantizer = faiss.IndexBinaryFlat(rows.shape[1] * 8)
    index = faiss.IndexBinaryIVF(quantizer, rows.shape[1] * 8, nlist)
    rng = np.random.default_rng(0)
    index.train(rows[np.sort(rng.permutation(len(rows))[: 64 * nlist])])
    index.add(rows)
    faiss.write_index_binary(index, str(path))
    index.nprobe = nprobe
    asked = rows[rng.permutation(len(rows))[:_SAMPLE]]
    top = min(_TOP + 1, len(rows))
    _, exact = scan.nearest(asked, codes, k_bits, top)
    found, _ = index.search(asked, top)
    right = (found[:, 1:] <= exact[:, -1:].astype(np.int64)).sum() if top > 1 else 1
    return {"nlist": nlist, "nprobe": nprobe, "recall": float(right / max(1, len(asked) * (top - 1)))}


def read(path: Path, facts: Mapping[str, Any], options: Mapping[str, Any]) -> "Ivf":
    """Read what `build` wrote; its sum was checked by the caller."""
    index = import_extra("faiss", "search", path).read_index_binary(str(path))
    index.nprobe = options.get("nprobe", facts["nprobe"])
    return Ivf(index, dict(facts))


class Ivf:
    """An approximate index over the rows of a snapshot."""

    def __init__(self, index, facts: dict[str, Any]):
        self.index, self.facts, self.recall = index, facts, facts["recall"]

    def nearest(self, queries: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (-1 where none was found) and distances, as `scan.nearest` gives them."""
        padded = np.zeros((len(queries), self.index.d // 8), np.uint8)
        padded[:, : queries.shape[1]] = queries
        distances, rows = self.index.search(padded, top_k)
        return rows, np.where(rows < 0, 65535, distances).astype(np.uint16)

    def remove(self, rows: np.ndarray) -> None:
        """Find these rows no longer."""
        import faiss

        self.index.remove_ids(faiss.IDSelectorBatch(rows.astype(np.int64)))
