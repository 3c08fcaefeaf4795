"""Recall of a query's own partner: the figure of image-text retrieval, which needs no labels."""

from collections.abc import Mapping, Sequence

import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation.inputs import Array, as_numpy, packed_codes
from math_hash.evaluation.rules import cut_offs, require_rules
from math_hash.hamming.codes import as_planes, as_words
from math_hash.hamming.kernels import compiled, fill_distances
from math_hash.hamming.threads import in_parts


def own_pair_recall(
    query_codes: Array,
    database_codes: Array,
    own: Array,
    *,
    k_bits: int | None = None,
    at: Sequence[int] = (1, 5, 10),
    ties: str = "index",
) -> dict[int, float]:
    """Recall@N: the share of queries whose own partner stands among the first N rows of the Hamming ranking.

    Image-text retrieval (Hodosh et al. 2013) has one image per text: the database is the set of the queries' own
    partners, and `own` is `range(q)`.

    Args:
        query_codes, database_codes: packed uint8 (n, ceil(k / 8)), or -1/+1 or 0/1 (n, k); NumPy or torch.
        own: int (q,), the row of each query's partner in the database.
        k_bits: needed for packed codes whose last byte is not full.
        at: cut-off ranks N.
        ties: "index", "expected", "optimistic" or "pessimistic", as in `math_hash.evaluation.rules`; the partner is the
            one relevant row.

    Returns:
        N -> recall@N in [0, 1], in the order of `at`.

    Raises:
        InputError: shapes or values are not as described; the message names the argument.

    Example:
        >>> import numpy as np
        >>> images, texts = np.array([[1, 1], [-1, -1]]), np.array([[1, 1], [1, -1]])
        >>> own_pair_recall(images, texts, [0, 1], at=[1, 2])
        {1: 1.0, 2: 1.0}
    """
    require_rules("lineage", ties, "zero")
    cut_offs(at)
    queries, bits = packed_codes(query_codes, k_bits, "query_codes")
    database, database_bits = packed_codes(database_codes, k_bits, "database_codes")
    if bits != database_bits:
        raise InputError(f"query_codes have {bits} bits, database_codes {database_bits}; expected one length")
    rows = as_numpy(own)
    if rows.shape != (len(queries),) or rows.dtype.kind not in "iu":
        raise InputError(f"own: {rows.dtype} {rows.shape}; expected int ({len(queries)},), one row per query")
    if rows.min() < 0 or rows.max() >= len(database):
        raise InputError(f"own: rows {rows.min()} to {rows.max()}; the database has rows 0 to {len(database) - 1}")
    words, planes = as_words(queries), as_planes(database)
    partners, places = rows.astype(np.int64), np.zeros((len(rows), 3), np.int64)
    in_parts(lambda part: _fill_places(words[part], planes, partners[part], places[part]), len(rows))
    nearer, tied, before = places.T
    if ties == "expected":
        return {int(N): float(np.clip((N - nearer) / tied, 0, 1).mean()) for N in at}
    rank = nearer + {"index": before, "optimistic": 0, "pessimistic": tied - 1}[ties]
    return {int(N): float((rank < N).mean()) for N in at}


@compiled
def _fill_places(
    queries: np.ndarray, database: np.ndarray, own: np.ndarray, places: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Rows nearer than the partner, rows at its distance (itself included), and of these those before it: (q, 3)."""
    distances = np.empty(database.shape[1], np.uint16)
    for q in range(len(queries)):
        fill_distances(queries[q], database, distances)
        at = distances[own[q]]
        for row in range(len(distances)):
            places[q, 0] += distances[row] < at
            places[q, 1] += distances[row] == at
        for row in range(own[q]):
            places[q, 2] += distances[row] == at


def own_pair_recalls(
    image_codes: Array, text_codes: Array, *, k_bits: int | None = None, ties: str = "index"
) -> dict[str, dict[str, float]]:
    """Recall@1, @5 and @10 of n image-text pairs among themselves, in both directions, as `results.json` holds it.

    Args:
        image_codes, text_codes: codes of n pairs, row by row.

    The other arguments and the errors are those of `own_pair_recall`.

    Example:
        >>> import numpy as np
        >>> own_pair_recalls(np.eye(2), np.eye(2))["image->text"]
        {'recall@1': 1.0, 'recall@5': 1.0, 'recall@10': 1.0}
    """
    own = np.arange(len(as_numpy(image_codes)))
    directions = {"image->text": (image_codes, text_codes), "text->image": (text_codes, image_codes)}
    return {
        direction: {f"recall@{N}": value for N, value in recall.items()}
        for direction, codes in directions.items()
        for recall in [own_pair_recall(*codes, own, k_bits=k_bits, ties=ties)]
    }


def mean_recall_at_10(recalls: Mapping[str, Mapping[str, float]]) -> float:
    """Recall@10 of what `own_pair_recalls` gave: the mean of both directions, which tables show."""
    return float(np.mean([recall["recall@10"] for recall in recalls.values()]))
