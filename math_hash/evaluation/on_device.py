"""Average precision on a GPU, through PyTorch: the same ranks by a stable sort of integer distances."""

import torch
from torch import Tensor

_BYTES_AT_ONCE = 256 << 20
_ONES_OF_A_BYTE = [bin(value).count("1") for value in range(256)]


def ranked_relevance(
    queries: Tensor, database: Tensor, query_labels: Tensor, labels: Tensor, minimum: int, order: str
) -> Tensor:
    """Whether the row at each rank is relevant.

    Args:
        queries, database: packed uint8 (b, bytes) and (n, bytes).
        query_labels, labels: 0/1 (b, c) and (n, c).
        minimum: labels that relevant rows share.
        order: of ties, "index", "optimistic" or "pessimistic".

    Returns:
        Bool (b, n).
    """
    ones = torch.tensor(_ONES_OF_A_BYTE, dtype=torch.int16, device=queries.device)
    key = torch.zeros(len(queries), len(database), dtype=torch.int16, device=queries.device)
    for byte in range(queries.shape[1]):
        key += ones[(queries[:, None, byte] ^ database[None, :, byte]).int()]
    relevant = (query_labels.float() @ labels.float().T) >= minimum
    if order != "index":
        key = 2 * key + (~relevant if order == "optimistic" else relevant).short()
    return relevant.gather(1, key.argsort(dim=1, stable=True))


def average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    labels: Tensor,
    *,
    minimum: int,
    top: int,
    normalizer: str,
    ties: str,
) -> tuple[Tensor, Tensor]:
    """Average precision, float64 (q,), and relevant rows, int64 (q,), of packed codes on any device.

    Arguments as in `ranked_relevance`; `top` and `normalizer` as in `ranking.average_precision`.
    """
    n = len(database)
    ranks = torch.arange(1, n + 1, dtype=torch.float64, device=queries.device)
    size = max(1, _BYTES_AT_ONCE // (40 * n))
    precisions, totals = [], []
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        relevant = ranked_relevance(queries[part], database, query_labels[part], labels, minimum, ties)
        found = relevant.cumsum(dim=1)
        R = found[:, -1]
        if normalizer == "lineage":
            counted = relevant & (found <= R.clamp(max=top)[:, None])
            whole = R.clamp(max=top)
        else:
            counted = relevant & (ranks <= top)
            whole = counted.sum(dim=1) if normalizer == "hits" else R.clamp(max=top)
        sums = (found / ranks * counted).sum(dim=1)
        precisions.append(sums / whole.clamp(min=1))
        totals.append(R)
    return torch.cat(precisions), torch.cat(totals)
