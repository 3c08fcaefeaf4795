import numpy as np
import pytest

from math_hash import InputError
from math_hash.data import split_rows
from math_hash.data.split import own_split


def test_the_split_is_the_releases():
    split = split_rows(20015, 2000, 10000)
    order = np.random.RandomState(1).permutation(20015)
    assert (split.query == order[:2000]).all()
    assert (split.train == order[2000:12000]).all()
    assert (split.database == order[2000:]).all()
    assert len(split.val) == 0


def test_validation_rows_come_from_the_tail_of_training_and_stay_in_the_database():
    plain, split = split_rows(100, 10, 50), split_rows(100, 10, 50, val_num=7)
    assert (np.concatenate([split.train, split.val]) == plain.train).all()
    assert len(split.val) == 7
    assert not np.isin(split.val, split.query).any()
    assert np.isin(split.val, split.database).all()


def test_other_seeds_give_other_splits():
    assert (split_rows(100, 10, 50, split_seed=2).query != split_rows(100, 10, 50).query).any()


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"`query_num` 60 .* = 110 rows, but the dataset has 100"):
        split_rows(100, 60, 50)
    with pytest.raises(InputError, match="leaves no training rows"):
        split_rows(100, 10, 50, val_num=50)


def test_rows_left_out_disappear_everywhere():
    split = split_rows(30, 5, 20, val_num=3)
    without = split.without(np.array([split.query[0], split.val[0], split.train[0]]))
    assert [len(part) for part in (without.query, without.train, without.val, without.database)] == [4, 16, 2, 23]


def test_a_users_own_collection_gets_a_split_that_fits():
    for rows in (1, 7, 100, 50000):
        numbers = own_split(rows)
        if rows > 10:
            split_rows(rows, **numbers)
        assert 0 < numbers["query_num"] <= 2000
        assert numbers["query_num"] + numbers["train_num"] <= rows
