"""The split of the releases: queries, training rows, validation rows and the database."""

from dataclasses import dataclass

import numpy as np

from math_hash.errors import InputError


@dataclass(frozen=True)
class Split:
    """Row numbers, int64, each in the order of the permutation.

    query: never seen in training. train: rows of a training epoch. val: cut from the tail of the training rows.
    database: all rows but the queries, training and validation rows included.
    """

    query: np.ndarray
    train: np.ndarray
    val: np.ndarray
    database: np.ndarray

    def without(self, rows: np.ndarray) -> "Split":
        """The same split, with some rows left out wherever they stand."""
        return Split(*(part[~np.isin(part, rows)] for part in (self.query, self.train, self.val, self.database)))


def split_rows(n: int, query_num: int, train_num: int, val_num: int = 0, split_seed: int = 1) -> Split:
    """Split n rows as the MATH and MITH releases do.

    A permutation of `range(n)` by NumPy's legacy generator: its first `query_num` rows are the queries, the next
    `train_num` the training rows, of which the last `val_num` are kept for validation.

    Raises:
        InputError: the numbers do not fit into n.
    """
    if query_num + train_num > n:
        raise InputError(
            f"--query-num {query_num} + --train-num {train_num} = {query_num + train_num} rows, "
            f"but the dataset has {n}; lower one of them"
        )
    if val_num >= train_num:
        raise InputError(f"--val-num {val_num} leaves no training rows of --train-num {train_num}; lower it")
    order = np.random.RandomState(split_seed).permutation(n)
    end = query_num + train_num
    return Split(
        query=order[:query_num],
        train=order[query_num : end - val_num],
        val=order[end - val_num : end],
        database=order[query_num:],
    )
