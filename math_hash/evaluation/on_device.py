"""Average precision on a GPU, through PyTorch: the same ranks by a stable sort of integer distances.

Codes and labels stay on the device of the database's codes. What comes to the CPU is one number per query, or, with
"expected" ties, one count per query and distance. A caller's own relevance works on NumPy arrays and gets the labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from math_hash.evaluation import kernels
from math_hash.evaluation.inputs import (
    Array,
    Relevance,
    as_numpy,
    gain_blocks,
    number_of_bits,
    packed_codes,
    require_matching,
)
from math_hash.evaluation.rules import NORMALIZERS

_BYTES_AT_ONCE = 256 << 20
_ONES_OF_A_BYTE = [bin(value).count("1") for value in range(256)]


@dataclass(frozen=True)
class DeviceTask:
    """Checked input of average precision, on one device."""

    queries: Tensor  # packed uint8 (q, bytes)
    database: Tensor  # packed uint8 (n, bytes)
    query_labels: Tensor  # float32 (q, c)
    labels: Tensor  # float32 (n, c)
    k_bits: int
    minimum: int
    relevance: Relevance | None
    raw_labels: tuple[Array, Array]

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of queries: distances, int32 (b, n), and whether a row is relevant, bool (b, n)."""
        ones = torch.tensor(_ONES_OF_A_BYTE, dtype=torch.int32, device=self.database.device)
        size = max(1, _BYTES_AT_ONCE // (40 * len(self.database)))
        for block, relevant in self._relevant(size):
            queries = self.queries[block]
            distances = torch.zeros(len(queries), len(self.database), dtype=torch.int32, device=self.database.device)
            for byte in range(queries.shape[1]):
                distances += ones[(queries[:, None, byte] ^ self.database[None, :, byte]).int()]
            yield distances, relevant

    def _relevant(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        if self.relevance is not None:
            query_labels, labels = (as_numpy(values) for values in self.raw_labels)
            for block, gains in gain_blocks(self.relevance, query_labels, labels, size):
                yield block, torch.from_numpy(gains >= self.minimum).to(self.database.device)
            return
        for start in range(0, len(self.queries), size):
            block = slice(start, start + size)
            yield block, (self.query_labels[block] @ self.labels.T) >= self.minimum


def prepare_on_device(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    k_bits: int | None,
    min_shared: int,
    relevance: Relevance | None,
) -> DeviceTask:
    """Check all input of a metric, and bring it to the device of `database_codes`, which are a tensor.

    Raises:
        InputError: shapes or values are not as they must be; the message names the argument.
    """
    device = torch.as_tensor(database_codes).device
    queries, bits = _packed(query_codes, k_bits, "query_codes", device)
    database, database_bits = _packed(database_codes, k_bits, "database_codes", device)
    labels = _moved(query_labels, device), _moved(database_labels, device)
    require_matching(bits, database_bits, (len(queries), len(database)), labels, min_shared)
    return DeviceTask(
        queries,
        database,
        labels[0].float(),
        labels[1].float(),
        bits,
        1 if relevance else min_shared,
        relevance,
        (query_labels, database_labels),
    )


def _packed(codes: Array, k_bits: int | None, name: str, device: torch.device) -> tuple[Tensor, int]:
    """Checked codes, packed, uint8 (n, bytes), and their number of bits."""
    if not isinstance(codes, Tensor):
        packed, bits = packed_codes(codes, k_bits, name)
        return _moved(packed, device), bits
    values = codes.detach().to(device)
    is_packed = values.dtype == torch.uint8
    bits = number_of_bits(values, is_packed, k_bits, name)
    return values if is_packed else pack(values > 0), bits


def pack(bits: Tensor) -> Tensor:
    """Pack bits, bool (n, k), into uint8 (n, ceil(k / 8)), as `math_hash.hamming.codes.pack` does."""
    padded = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8)).reshape(len(bits), -1, 8)
    places = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=bits.device)
    return (padded * places).sum(dim=2, dtype=torch.uint8)


def _moved(values: Array, device: torch.device) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().to(device)
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def average_precision(task: DeviceTask, top: int, normalizer: str, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """Average precision of packed codes on any device.

    Args:
        top: cut-off rank, at most the rows of the database.
        normalizer, ties: names, as in `math_hash.evaluation.rules`.

    Returns:
        Average precision, float64 (q,), and relevant rows, int64 (q,).
    """
    if ties == "expected":
        counts = np.concatenate([_counts(*block, task.k_bits) for block in task.blocks()])
        precision = kernels.expected_precisions(counts, task.k_bits, top, NORMALIZERS[normalizer], len(task.database))
        return precision, counts[:, 1::2].sum(axis=1)
    blocks = [_ranked_precision(*block, top, normalizer, ties) for block in task.blocks()]
    precision, relevant = (torch.cat(column).cpu().numpy() for column in zip(*blocks, strict=True))
    return precision, relevant


def _ranked_precision(
    distances: Tensor, relevant: Tensor, top: int, normalizer: str, ties: str
) -> tuple[Tensor, Tensor]:
    """AP, float64 (b,), and relevant rows, int64 (b,), from distances, int32 (b, n), and relevance, bool (b, n)."""
    if ties != "index":
        distances = 2 * distances + (~relevant if ties == "optimistic" else relevant).int()
    ranked = relevant.gather(1, distances.argsort(dim=1, stable=True))
    ranks = torch.arange(1, ranked.shape[1] + 1, dtype=torch.float64, device=ranked.device)
    hits = ranked.cumsum(dim=1)  # relevant rows down to each rank
    R = hits[:, -1]
    whole = R.clamp(max=top)
    if normalizer == "lineage":
        counted = ranked & (hits <= whole[:, None])
    else:
        counted = ranked & (ranks <= top)
        if normalizer == "hits":
            whole = counted.sum(dim=1)
    sums = (hits / ranks * counted).sum(dim=1)
    return sums / whole.clamp(min=1), R


def _counts(distances: Tensor, relevant: Tensor, k_bits: int) -> np.ndarray:
    """Irrelevant and relevant rows at each distance, alternating: int64 (b, 2 k + 2)."""
    keys = 2 * distances.long() + relevant
    offsets = torch.arange(len(keys), device=keys.device)[:, None] * (2 * k_bits + 2)
    flat = torch.bincount((keys + offsets).reshape(-1), minlength=len(keys) * (2 * k_bits + 2))
    return flat.reshape(len(keys), -1).cpu().numpy()
