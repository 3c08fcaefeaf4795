"""The split of the releases: queries, training rows, validation rows and the database."""

from dataclasses import dataclass

import numpy as np

from math_hash.errors import InputError


@dataclass(frozen=True)
class Split:
    """Row numbers, int64, each in the order of the permutation.

    Attributes:
        query: never seen in training.
        train: the rows of a training epoch.
        val: validation rows, cut from the tail of the training rows.
        database: all rows but the queries, training and validation rows included.
    """

    query: np.ndarray
    train: np.ndarray
    val: np.ndarray
    database: np.ndarray

    def without(self, rows: np.ndarray) -> "Split":
        """The same split without some rows, wherever they stand."""
        return Split(*(part[~np.isin(part, rows)] for part in (self.query, self.train, self.val, self.database)))


def split_rows(n: int, query_num: int, train_num: int, val_num: int = 0, split_seed: int = 1) -> Split:
    """Split n rows as the MATH and MITH releases do.

    A permutation of `range(n)` by NumPy's legacy generator: its first `query_num` rows are the queries, the next
    `train_num` the training rows, of which the last `val_num` are kept for validation.

    Args:
        n: number of rows.
        query_num: number of queries.
        train_num: number of training rows, those for validation included.
        val_num: number of validation rows.
        split_seed: of the permutation; the releases use 1.

    Raises:
        InputError: the numbers do not fit into n.

    >>> split = split_rows(10, query_num=2, train_num=5, val_num=1)
    >>> split.query.tolist(), split.train.tolist(), split.val.tolist()
    ([2, 9], [6, 4, 0, 3], [1])
    >>> split.database.tolist()
    [6, 4, 0, 3, 1, 7, 8, 5]
    """
    if query_num + train_num > n:
        raise InputError(
            f"`query_num` {query_num} + `train_num` {train_num} = {query_num + train_num} rows, "
            f"but the dataset has {n}; lower one of them"
        )
    if val_num >= train_num:
        raise InputError(f"`val_num` {val_num} leaves no training rows of `train_num` {train_num}; lower it")
    order = np.random.RandomState(split_seed).permutation(n)
    end = query_num + train_num
    return Split(
        query=order[:query_num],
        train=order[query_num : end - val_num],
        val=order[end - val_num : end],
        database=order[query_num:],
    )


def own_split(rows: int) -> dict[str, int]:
    """Numbers of queries, training and validation rows for a collection that no protocol describes.

    >>> own_split(1000)
    {'query_num': 100, 'train_num': 900, 'val_num': 90}
    """
    queries = min(2000, -(-rows // 10))
    train = min(10000, rows - queries)
    return {"query_num": queries, "train_num": train, "val_num": min(500, train // 10)}
