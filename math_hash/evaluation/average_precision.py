"""Average precision of Hamming ranking."""

from typing import Any

import numpy as np

from math_hash.evaluation import kernels
from math_hash.evaluation.inputs import Array, Relevance, Task, lies_on_accelerator, prepare
from math_hash.evaluation.rules import NORMALIZERS, TIES, cut_off, require_rules, without_relevant
from math_hash.hamming.threads import in_parts


def average_precision(
    query_codes: Array,
    database_codes: Array,
    query_labels: Array,
    database_labels: Array,
    *,
    k_bits: int | None = None,
    top_k: int | None = None,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> np.ndarray:
    """Average precision of each query, the database ranked by Hamming distance.

    AP is the mean, over relevant rows, of the precision at their ranks. Where the database's codes are a torch tensor
    on a GPU, the ranking runs there, and only results come to the CPU.

    Args:
        query_codes, database_codes: packed uint8 (n, ceil(k / 8)), or -1/+1 or 0/1 (n, k); NumPy or torch.
        query_labels, database_labels: 0/1 (n, c); a row is relevant where it shares a label with the query.
        k_bits: needed for packed codes whose last byte is not full.
        top_k: cut-off; None ranks all of the database.
        ties: "index", "expected", "optimistic" or "pessimistic", as in `math_hash.evaluation.rules`.
        normalizer: of AP with a cut-off, "lineage", "hits" or "min", likewise.
        no_relevant: a query without relevant rows counts 0 ("zero"), is NaN ("skip"), or raises ("error").
        min_shared: labels that a relevant row shares at least.
        relevance: own rule, (query_labels, database_labels) -> gains (b, n), relevant where above 0; called on blocks.

    Returns:
        float64 (q,), in [0, 1].

    Raises:
        InputError: shapes or values are not as described; the message names the argument.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[1, 1], [1, -1], [-1, -1]])
        >>> labels = np.array([[1, 0], [0, 1], [1, 0]])
        >>> average_precision(codes[:1], codes, labels[:1], labels).round(3).tolist()
        [0.833]
    """
    require_rules(normalizer, ties, no_relevant)
    compute = _on_device if lies_on_accelerator(database_codes) else _compiled
    data = (query_codes, database_codes, query_labels, database_labels)
    precision, relevant = compute(data, k_bits, top_k, ties, normalizer, min_shared, relevance)
    return without_relevant(precision, relevant, no_relevant)


def _compiled(
    data: tuple[Array, Array, Array, Array],
    k_bits: int | None,
    top_k: int | None,
    ties: str,
    normalizer: str,
    min_shared: int,
    relevance: Relevance | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision, float64 (q,), and relevant rows, int64 (q,), by the compiled kernels."""
    task = prepare(*data, k_bits, min_shared, relevance)
    rules = (task.k_bits, task.minimum, cut_off(top_k, task.rows), NORMALIZERS[normalizer], TIES[ties])
    sums = kernels.harmonic_sums(task.rows)
    blocks = [_ranked(task, block, gains, *rules, *sums) for block, gains in task.blocks()]
    precision, relevant = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return precision, relevant


def _ranked(task: Task, block: slice, gains: np.ndarray, *rules: Any) -> tuple[np.ndarray, np.ndarray]:
    queries, query_labels = task.queries[block], task.query_labels[block]
    precision, relevant = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
    in_parts(
        lambda part: kernels.fill_average_precision(
            queries[part], task.database, query_labels[part], task.labels, gains[part], *rules,
            precision[part], relevant[part],
        ),
        len(queries),
    )  # fmt: skip
    return precision, relevant


def _on_device(
    data: tuple[Array, Array, Array, Array],
    k_bits: int | None,
    top_k: int | None,
    ties: str,
    normalizer: str,
    min_shared: int,
    relevance: Relevance | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The same by PyTorch, on the device of the database's codes."""
    from math_hash.evaluation.on_device import average_precision, prepare_on_device

    task = prepare_on_device(*data, k_bits, min_shared, relevance)
    return average_precision(task, cut_off(top_k, len(task.database)), normalizer, ties)
