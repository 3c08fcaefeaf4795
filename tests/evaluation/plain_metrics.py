"""Every ranking metric on plain lists, written from the definitions, and random tasks with many ties."""

from itertools import chain, permutations, product
from math import log2

import numpy as np
from hypothesis import strategies as st

RANDOM_TASKS = {
    "seed": st.integers(0, 2**32 - 1),
    "queries": st.integers(1, 3),
    "k_bits": st.sampled_from([1, 3, 8, 12, 16, 64, 65, 130]),
    "labels": st.sampled_from([1, 3, 70]),
    "density": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "different": st.integers(1, 5),
}
RULES = {
    "normalizer": st.sampled_from(["lineage", "hits", "min"]),
    "top": st.integers(1, 30),
    "minimum": st.sampled_from([1, 1, 2]),
    "at": st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True).map(sorted),
}


def random_task(seed, queries, rows, k_bits, labels, density, different):
    """Bits and labels of queries and database; few different codes, so that there are ties and duplicated rows."""
    rng = np.random.default_rng(seed)
    pool = rng.random((different, k_bits)) < 0.5
    query, database = pool[rng.integers(0, different, queries)], pool[rng.integers(0, different, rows)]
    return query, database, *(rng.random((n, labels)) < density for n in (queries, rows))


def orders(distances, gains, ties):
    """The rankings (lists of rows) over which a tie rule averages."""
    rows = range(len(distances))
    if ties == "expected":
        groups = [[row for row in rows if distances[row] == d] for d in sorted(set(distances))]
        return [list(chain(*choice)) for choice in product(*map(permutations, groups))]
    key = {"index": lambda row: row, "optimistic": lambda row: -gains[row], "pessimistic": lambda row: gains[row]}[ties]
    return [sorted(rows, key=lambda row: (distances[row], key(row)))]


def plain_metrics(ranked, minimum, top, normalizer, at):
    """Metrics of one ranking, given as the list of its gains.

    AP, AP at `top`, weighted AP, then precision, recall, NDCG and ACG at each cutoff.
    """
    relevant = [gain >= minimum for gain in ranked]
    R, n = sum(relevant), len(ranked)
    precisions = [sum(relevant[:rank]) / rank for rank in range(1, n + 1)]
    hits = [precisions[rank] for rank in range(n) if relevant[rank]]
    if normalizer == "lineage":
        at_k = hits[: min(top, R)]
        ap_k = sum(at_k) / len(at_k) if at_k else 0.0
    else:
        inside = [precisions[rank] for rank in range(min(top, n)) if relevant[rank]]
        whole = len(inside) if normalizer == "hits" else min(R, top)
        ap_k = sum(inside) / whole if whole else 0.0
    acg = [sum(ranked[:rank]) / rank for rank in range(1, n + 1)]

    def dcg(gains):
        return sum((2**gain - 1) / log2(place + 2) for place, gain in enumerate(gains))

    graded = [acg[rank] for rank in range(n) if relevant[rank]]
    values = [sum(hits) / R if R else 0.0, ap_k, sum(graded) / R if R else 0.0]
    for cut in at:
        depth = min(cut, n)
        ideal = dcg(sorted(ranked, reverse=True)[:depth])
        values += [
            sum(relevant[:depth]) / depth,
            sum(relevant[:depth]) / R if R else 0.0,
            dcg(ranked[:depth]) / ideal if ideal else 0.0,
            sum(ranked[:depth]) / depth,
        ]
    return values


def plain_radius_curves(distances, gains, minimum, k_bits):
    """Precision, recall and F1 within radius 0 ... k."""
    R = sum(gain >= minimum for gain in gains)
    curves = []
    for radius in range(k_bits + 1):
        near = [gain for distance, gain in zip(distances, gains, strict=True) if distance <= radius]
        good = sum(gain >= minimum for gain in near)
        precision, recall = good / len(near) if near else 0.0, good / R if R else 0.0
        curves.append((precision, recall, 2 * precision * recall / (precision + recall) if good else 0.0))
    return np.transpose(curves)
