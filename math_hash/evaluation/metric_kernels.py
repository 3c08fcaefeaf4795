"""The compiled pass that gives every metric of a query at once, beside the average precision of `kernels`."""

import numpy as np

from math_hash.evaluation.kernels import (
    EXPECTED,
    INDEX,
    LINEAGE,
    OPTIMISTIC,
    compiled,
    expected_precision,
    fill_distances,
    fill_gains,
    harmonic_sums,
    limits,
    normalized,
)
from math_hash.hamming.threads import in_parts


def all_metrics(
    queries: np.ndarray,
    database: np.ndarray,
    query_labels: np.ndarray,
    labels: np.ndarray,
    given: np.ndarray,
    k_bits: int,
    minimum: int,
    top: int,
    normalizer: int,
    ties: int,
    most: int,
    at: np.ndarray,
    discount: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every metric of each query, from one ranking, on all threads.

    Args beyond those of `kernels.average_precision`: most, the largest gain; at, cut-off ranks, rising, int64 (c,);
    discount, 1 / log2(1 + rank) for ranks 1 ... at[-1].

    Returns:
        AP over all rows and at `top`, (q, 2); precision, recall, NDCG and ACG at each cut-off, (q, 4, c); weighted AP
        (q,); rows and relevant rows within each radius, (q, 2, k + 1); relevant rows, (q,).
    """
    q_count = len(queries)
    precision, graded, at_cut = np.zeros((q_count, 2)), np.zeros(q_count), np.zeros((q_count, 4, len(at)))
    within, relevant = np.zeros((q_count, 2, k_bits + 1), np.int64), np.zeros(q_count, np.int64)
    sums, worth = harmonic_sums(database.shape[1]), 2.0 ** np.arange(most + 1) - 1.0  # of a gain, in DCG
    discounts = np.zeros(len(discount) + 1)
    discounts[1:] = np.cumsum(discount)
    in_parts(
        lambda part: _fill_metrics(
            queries[part], database, query_labels[part], labels, given[part], k_bits, minimum, top, normalizer, ties,
            most, at, discount, discounts, worth, *sums,
            precision[part], at_cut[part], graded[part], within[part], relevant[part],
        ),
        q_count,
    )  # fmt: skip
    return precision, at_cut, graded, within, relevant


@compiled
def _fill_metrics(
    queries: np.ndarray, database: np.ndarray, query_labels: np.ndarray, labels: np.ndarray, given: np.ndarray,
    k_bits: int, minimum: int, top: int, normalizer: int, ties: int, most: int, at: np.ndarray, discount: np.ndarray,
    discounts: np.ndarray, worth: np.ndarray, harmonic: np.ndarray, inverse: np.ndarray, precision: np.ndarray,
    at_cut: np.ndarray, graded: np.ndarray, within: np.ndarray, relevant: np.ndarray,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """See `all_metrics`; `discounts` are the sums of `discount`, `worth` is 2^gain - 1."""
    n = database.shape[1]
    for q in range(len(queries)):
        distances, gains = np.empty(n, np.uint16), np.empty(n, np.uint16)
        fill_distances(queries[q], database, distances)
        fill_gains(query_labels[q], labels, given[q] if len(given) else given[:0].reshape(0), gains)
        table = _count_gains(distances, gains, k_bits, most)
        counts = _count_relevant(table, minimum, within[q])
        R = relevant[q] = within[q, 1, k_bits]
        if ties == EXPECTED:
            weighted = _expected_sums(table, minimum, at, discounts, at_cut[q], harmonic, worth)
            if R:
                precision[q, 0] = expected_precision(counts, k_bits, R, n, LINEAGE, harmonic)
                precision[q, 1] = expected_precision(counts, k_bits, R, top, normalizer, harmonic)
        else:
            if ties == INDEX:
                ranked = _rank_by_index(distances, gains, counts, k_bits)
            else:
                ranked = _rank_by_gain(table, n, ties == OPTIMISTIC)
            weighted = _ranked_sums(
                ranked, minimum, at, discount, at_cut[q], precision[q], R, top, normalizer, inverse, worth
            )
        if R:
            graded[q] = weighted / R
        _finish_cut_offs(at_cut[q], at, n, R, _ideal_gain(table, at, discounts, worth))


@compiled
def _count_gains(
    distances: np.ndarray, gains: np.ndarray, k_bits: int, most: int
) -> np.ndarray:  # pragma: no cover - compiled
    """Rows of each distance and gain, int64 (k + 1, most + 1); two tables in turn, as in `_count`."""
    tables = np.zeros((2, k_bits + 1, most + 1), np.int64)
    for row in range(0, len(gains) - 1, 2):
        tables[0, distances[row], gains[row]] += 1
        tables[1, distances[row + 1], gains[row + 1]] += 1
    if len(gains) % 2:
        tables[0, distances[-1], gains[-1]] += 1
    return tables[0] + tables[1]


@compiled
def _count_relevant(table: np.ndarray, minimum: int, within: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    """Irrelevant and relevant rows at each distance, alternating: int64 (2 k + 2,).

    Fills rows and relevant rows within each radius, (2, k + 1).
    """
    counts = np.zeros(2 * len(table), np.int64)
    N, R = 0, 0
    for distance in range(table.shape[0]):
        for gain in range(table.shape[1]):
            counts[2 * distance + (gain >= minimum)] += table[distance, gain]
        N += counts[2 * distance] + counts[2 * distance + 1]
        R += counts[2 * distance + 1]
        within[0, distance], within[1, distance] = N, R
    return counts


@compiled
def _finish_cut_offs(
    at_cut: np.ndarray, at: np.ndarray, n: int, R: int, ideal: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Turn sums at the cut-offs, (4, c), into precision, recall, NDCG and ACG."""
    for cut in range(len(at)):
        depth = min(at[cut], n)
        at_cut[1, cut] = at_cut[0, cut] / R if R else 0.0
        at_cut[0, cut] /= depth
        at_cut[2, cut] = at_cut[2, cut] / ideal[cut] if ideal[cut] else 0.0
        at_cut[3, cut] /= depth


@compiled
def _rank_by_index(
    distances: np.ndarray, gains: np.ndarray, counts: np.ndarray, k_bits: int
) -> np.ndarray:  # pragma: no cover - compiled
    """Gains in the order of the ranking, ties by database order: a counting sort."""
    place = np.zeros(k_bits + 2, np.uint64)
    for distance in range(k_bits + 1):
        place[distance + 1] = place[distance] + np.uint64(counts[2 * distance] + counts[2 * distance + 1])
    ranked = np.empty(len(gains), np.uint16)
    for row in range(len(gains)):
        distance = distances[row]
        ranked[place[distance]] = gains[row]
        place[distance] += np.uint64(1)
    return ranked


@compiled
def _rank_by_gain(table: np.ndarray, n: int, best: bool) -> np.ndarray:  # pragma: no cover - compiled
    """Gains in the order of the ranking, ties with the largest gain first, or last."""
    ranked, place, most = np.empty(n, np.uint16), 0, table.shape[1] - 1
    for distance in range(table.shape[0]):
        for step in range(most + 1):
            gain = most - step if best else step
            for _ in range(table[distance, gain]):
                ranked[place] = gain
                place += 1
    return ranked


@compiled
def _ranked_sums(
    ranked: np.ndarray,
    minimum: int,
    at: np.ndarray,
    discount: np.ndarray,
    at_cut: np.ndarray,
    precision: np.ndarray,
    R: int,
    top: int,
    normalizer: int,
    inverse: np.ndarray,
    worth: np.ndarray,
) -> float:  # pragma: no cover - compiled
    """Walk down a ranking. Fills sums at the cut-offs and both APs; returns the sum of ACG at the relevant rows."""
    n, rank = len(ranked), 0
    hits, gained, discounted = 0, 0, 0.0
    total, graded = 0.0, 0.0
    for cut in range(len(at)):
        end = min(at[cut], n)
        for place in range(rank, end):
            gain, weight = ranked[place], inverse[place + 1]
            is_relevant = np.int64(gain >= minimum)  # multiplied, not branched on: it has no pattern to predict
            hits += is_relevant
            gained += gain
            discounted += worth[gain] * discount[place]
            total += (is_relevant * hits) * weight
            graded += (is_relevant * gained) * weight
        rank = max(rank, end)
        at_cut[0, cut], at_cut[2, cut], at_cut[3, cut] = hits, discounted, gained
    for place in range(rank, n):  # the same below the last cut-off, where nothing is discounted
        gain, weight = ranked[place], inverse[place + 1]
        is_relevant = np.int64(gain >= minimum)
        hits += is_relevant
        gained += gain
        total += (is_relevant * hits) * weight
        graded += (is_relevant * gained) * weight
    if R:
        precision[0] = total / R
        precision[1] = _precision_at_top(ranked, minimum, R, top, normalizer, inverse)
    return graded


@compiled
def _precision_at_top(
    ranked: np.ndarray, minimum: int, R: int, top: int, normalizer: int, inverse: np.ndarray
) -> float:  # pragma: no cover - compiled
    """AP with a cut-off, from the top of a ranking."""
    last_rank, last_relevant = limits(R, top, normalizer)
    total, hits = 0.0, 0
    for place in range(min(last_rank, len(ranked))):
        if ranked[place] >= minimum:
            hits += 1
            total += hits * inverse[place + 1]
            if hits == last_relevant:
                break
    return normalized(total, hits, R, top, normalizer)


@compiled
def _expected_sums(
    table: np.ndarray,
    minimum: int,
    at: np.ndarray,
    discounts: np.ndarray,
    at_cut: np.ndarray,
    harmonic: np.ndarray,
    worth: np.ndarray,
) -> float:  # pragma: no cover - compiled
    """As `_ranked_sums`, in expectation over the orders within ties; the APs are computed elsewhere."""
    cut, N = 0, 0
    hits, gained, discounted, graded = 0.0, 0.0, 0.0, 0.0
    total = table.sum()
    for distance in range(table.shape[0]):
        n, r, gain_all, gain_relevant, power = 0, 0, 0, 0, 0.0
        for gain in range(table.shape[1]):
            rows = table[distance, gain]
            n += rows
            gain_all += rows * gain
            power += rows * worth[gain]
            if gain >= minimum:
                r += rows
                gain_relevant += rows * gain
        if n == 0:
            continue
        # a relevant row at position j: gains before the tie, its own, and those of the j - 1 rows before it
        inverse = harmonic[N + n] - harmonic[N]
        graded += (r / n * gained + gain_relevant / n) * inverse
        if n > 1:
            graded += (r * gain_all - gain_relevant) / (n * (n - 1)) * (n - (N + 1) * inverse)
        while cut < len(at) and (at[cut] <= N + n or N + n == total):
            m = min(at[cut] - N, n)
            at_cut[0, cut], at_cut[3, cut] = hits + r * m / n, gained + gain_all * m / n
            at_cut[2, cut] = discounted + power / n * (discounts[N + m] - discounts[N])
            cut += 1
        if cut < len(at):
            discounted += power / n * (discounts[N + n] - discounts[N])
        N, hits, gained = N + n, hits + r, gained + gain_all
    return graded


@compiled
def _ideal_gain(
    table: np.ndarray, at: np.ndarray, discounts: np.ndarray, worth: np.ndarray
) -> np.ndarray:  # pragma: no cover - compiled
    """Discounted gain of the best possible ranking at each cut-off; `discounts` are sums over the first ranks."""
    by_gain = table.sum(axis=0)
    ideal = np.zeros(len(at))
    for cut in range(len(at)):
        rank, depth = 0, min(at[cut], len(discounts) - 1)
        for gain in range(len(by_gain) - 1, 0, -1):
            end = min(rank + by_gain[gain], depth)
            ideal[cut] += worth[gain] * (discounts[end] - discounts[rank])
            rank = end
    return ideal
