"""Recall of a query's own partner, against plain loops and torchmetrics."""

import numpy as np
import pytest
import torch
from plain_metrics import orders

from math_hash import InputError
from math_hash.evaluation import own_pair_recall
from math_hash.evaluation.own_pair_recall import mean_recall_at_10, own_pair_recalls
from math_hash.hamming.codes import pack

hit_rate = pytest.importorskip("torchmetrics.functional.retrieval").retrieval_hit_rate


def plain_recall(query, database, own, at, ties):
    """The mean over queries, and over the rankings that the tie rule averages, of finding the partner."""
    found = []
    for bits, partner in zip(query, own, strict=True):
        distances = [int((bits != row).sum()) for row in database]
        rankings = orders(distances, [int(row == partner) for row in range(len(database))], ties)
        found.append(np.mean([partner in ranking[:at] for ranking in rankings]))
    return np.mean(found)


@pytest.mark.parametrize("ties", ["index", "expected", "optimistic", "pessimistic"])
@pytest.mark.parametrize("k_bits", [1, 3, 65])
def test_recall_equals_plain_loops_under_every_tie_rule(ties, k_bits):
    rng = np.random.default_rng(k_bits)
    pool = rng.random((3, k_bits)) < 0.5  # few different codes: many ties
    query, database = pool[rng.integers(0, 3, 9)], pool[rng.integers(0, 3, 6)]
    own = rng.integers(0, 6, 9)
    expected = {at: pytest.approx(plain_recall(query, database, own, at, ties)) for at in (5, 1, 6, 20)}
    found = own_pair_recall(pack(query), pack(database), own, k_bits=k_bits, at=(5, 1, 6, 20), ties=ties)
    assert found == expected
    assert list(found) == [5, 1, 6, 20]
    signs = [torch.from_numpy(np.where(bits, 1.0, -1.0)) for bits in (query, database)]
    assert own_pair_recall(*signs, torch.from_numpy(own), at=(5, 1, 6, 20), ties=ties) == expected


@pytest.mark.parametrize("at", [1, 7, 40])
def test_recall_is_the_hit_rate_of_torchmetrics_where_nothing_ties(at):
    rng = np.random.default_rng(0)
    database = np.arange(40)[None] < rng.permutation(40)[:, None]  # all at different distances from zero
    own = rng.integers(0, 40, 30)
    scores = torch.from_numpy(41.0 - database.sum(1))
    theirs = [float(hit_rate(scores, torch.arange(40) == partner, top_k=at)) for partner in own]
    assert own_pair_recall(np.zeros((30, 40), bool), database, own, at=[at]) == {at: pytest.approx(np.mean(theirs))}


def test_both_directions_of_pairs():
    rng = np.random.default_rng(0)
    image, text = (rng.integers(0, 256, (50, 2), np.uint8) for _ in range(2))
    found = own_pair_recalls(image, text, ties="expected")
    for direction, codes in (("image->text", (image, text)), ("text->image", (text, image))):
        single = own_pair_recall(*codes, np.arange(50), ties="expected")
        assert found[direction] == {f"recall@{at}": value for at, value in single.items()}
    assert found["image->text"] != found["text->image"]
    assert mean_recall_at_10(found) == np.mean([recall["recall@10"] for recall in found.values()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": [0]}, r"own: int64 \(1,\); expected int \(2,\)"),
        ({"own": [0, 3]}, "own: rows 0 to 3; the database has rows 0 to 2"),
        ({"own": [0.0, 1.0]}, "own: float64"),
        ({"at": []}, "at: "),
        ({"ties": "random"}, "ties: 'random' is unknown"),
        ({"database_codes": np.ones((3, 5))}, "query_codes have 4 bits, database_codes 5"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    given = {"query_codes": np.ones((2, 4)), "database_codes": np.ones((3, 4)), "own": [0, 1], **change}
    with pytest.raises(InputError, match=message):
        own_pair_recall(**given)
