"""Ways to store the items of one collection, measured on the same queries and rows: quality against bytes per item.

An entry knows vectors and codes, and no model: what is known of a query, what is stored of a row, and a score of the
two. Everything else is the same for all entries: the split, the relevance, the measures and how ties are broken.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from math_hash.evaluation.chance_level import chance_level
from math_hash.evaluation.exports import CROSS_MODAL
from math_hash.evaluation.ranked_average_precision import ranked_average_precision
from math_hash.hamming.asymmetric import asymmetric_scores
from math_hash.hamming.codes import as_signs, binarize, pack, unpack

CANDIDATES = 200  # rows found by Hamming distance that are reranked
PRECISION_AT, RECALL_AT = 20, 10
_QUERIES_AT_ONCE = 256

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # queries (b, ...), stored rows (n, ...) -> float (b, n)


@dataclass(frozen=True)
class Entry:
    """One way to store items.

    name: for tables; entries of one name differ in length. query, stored: modality -> what is known of each row as a
    query, (rows, ...), and what is stored of it, (rows, ...). score: of queries and stored rows; the higher, the
    nearer. rerank: a finer score of the same arguments, for the first `CANDIDATES` rows; None if there is none.
    fitted: what was fitted to the training rows.
    """

    name: str
    query: Mapping[str, np.ndarray]
    stored: Mapping[str, np.ndarray]
    score: Score
    rerank: Score | None = None
    fitted: str = "nothing"

    @property
    def is_binary(self) -> bool:
        """Whether rows are ranked by Hamming distance, and can be reranked."""
        return self.rerank is not None

    @property
    def bytes_per_item(self) -> int:
        """Bytes that are stored of one item."""
        return max(values[0].nbytes for values in self.stored.values())


@dataclass(frozen=True)
class Task:
    """What is asked.

    labels: 0/1 (rows, c); a row is relevant where it shares a label with the query. query, database: numbers of rows.
    trained: numbers of the rows that anything was trained or fitted on.
    """

    labels: np.ndarray
    query: np.ndarray
    database: np.ndarray
    trained: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """Bool (database,): the rows of the database that nothing was trained or fitted on."""
        return ~np.isin(self.database, self.trained)

    def on_labels(self, columns: tuple[int, ...]) -> "Task":
        """The same task for some labels only, on the queries and the database rows that have one of them."""
        labels = self.labels[:, columns]
        query, database = (rows[labels[rows].any(axis=1)] for rows in (self.query, self.database))
        return Task(labels, query, database, self.trained)

    def chance(self) -> dict[str, float]:
        """What random rankings score: each measure of `measure`."""
        labels, database = self.labels[self.query].astype(np.float32), self.labels[self.database].astype(np.float32)
        others = self.others
        return {
            "precision@20": float((labels @ database.T > 0).mean()),
            "mAP": chance_level(labels, database),
            "mAP_other_rows": chance_level(labels, database[others]) if others.any() else 0.0,
            "own_pair_recall@10": min(RECALL_AT / len(self.query), 1.0),
        }


def bits_entry(name: str, continuous: Mapping[str, np.ndarray], fitted: str = "nothing") -> Entry:
    """Signs of continuous codes, ranked by Hamming distance, and reranked by the asymmetric score.

    Args:
        continuous: modality -> float (rows, k); a bit is 1 where the value is >= 0.
    """
    stored = {modality: pack(binarize(values)) for modality, values in continuous.items()}
    return Entry(name, continuous, stored, _hamming, asymmetric_scores, fitted)


def _hamming(queries: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """k - 2 times the Hamming distance, int16 (b, n): small integers, which are sorted much faster than floats."""
    signs = as_signs(unpack(packed, queries.shape[1]))
    return (as_signs(binarize(queries)) @ signs.T).astype(np.int16)


def measure(entry: Entry, task: Task) -> dict[str, dict[str, dict[str, float]]]:
    """Rank the database for each query, and the queries' partners among themselves.

    Ties are broken by database order.

    Returns:
        "plain", and "reranked" if the entry can be reranked -> direction -> `precision@20` and `mAP` for shared labels,
        `mAP_other_rows`, the same ranking without the rows that anything was fitted on, and `own_pair_recall@10`, the
        share of queries whose own partner stands among the first ten partners of all queries.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    others, labels = task.others, task.labels.astype(np.float32)
    for direction in CROSS_MODAL:
        values: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)  # form and measure -> of blocks of queries
        for block, orders in _rankings(entry, direction, task.query, task.database):
            shared = labels[task.query[block]] @ labels[task.database].T > 0
            for form, order in orders.items():
                relevant = np.take_along_axis(shared, order, axis=1)
                among_others = relevant[others[order]].reshape(len(order), -1)  # as many rows for each query
                values[form, "precision@20"].append(relevant[:, :PRECISION_AT].mean(axis=1))
                values[form, "mAP"].append(ranked_average_precision(relevant))
                values[form, "mAP_other_rows"].append(ranked_average_precision(among_others))
        for block, orders in _rankings(entry, direction, task.query, task.query):
            own = np.arange(len(task.query))[block, None]
            for form, order in orders.items():
                values[form, "own_pair_recall@10"].append((order[:, :RECALL_AT] == own).any(axis=1))
        for (form, name), blocks in values.items():
            results.setdefault(form, {}).setdefault(direction, {})[name] = float(np.concatenate(blocks).mean())
    return results


def _rankings(
    entry: Entry, direction: str, query: np.ndarray, database: np.ndarray
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Blocks of queries, and for each the order of the database's rows, int64 (b, n), "plain" and "reranked"."""
    asked, found = direction.split("->")
    stored = entry.stored[found][database]
    for start in range(0, len(query), _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        queries = entry.query[asked][query[block]]
        order = np.argsort(-entry.score(queries, stored), axis=1, kind="stable")
        orders = {"plain": order}
        if entry.rerank:
            first = order[:, :CANDIDATES]
            pairs = zip(queries, first, strict=True)
            finer = np.concatenate([entry.rerank(query[None], stored[places]) for query, places in pairs])
            best = np.take_along_axis(first, np.argsort(-finer, axis=1, kind="stable"), axis=1)
            orders["reranked"] = np.concatenate([best, order[:, CANDIDATES:]], axis=1)
        yield block, orders
