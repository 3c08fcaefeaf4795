"""The compiled core of every ranking metric, over packed codes.

One pass over the database gives each row's Hamming distance (population count of 64-bit words) and its number of
shared labels. A k-bit code has only k + 1 distances, so ranks come from counting rows at each distance, without
sorting.

Layout: queries uint64 (q, words), one row per query; the database transposed, uint64 (words, n), so that the compiler
turns the loop over rows into vector instructions. Labels likewise. Where a caller gives relevance itself, `given` is
uint16 (q, n) and the labels are not read; else it is empty.
"""

import math

import numba
import numpy as np

from math_hash.hamming.kernels import compiled, fill_distances, popcount

INDEX, OPTIMISTIC, PESSIMISTIC, EXPECTED = range(4)
LINEAGE, HITS, MIN = range(3)

_32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_VANISHING = 1e-20


@compiled
def fill_gains(
    query: np.ndarray, labels: np.ndarray, given: np.ndarray, gains: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Numbers of shared labels, or what the caller gave, into uint16 (n,)."""
    if len(given):
        gains[:] = given
        return
    for row in range(labels.shape[1]):
        gains[row] = np.uint16(popcount(query[0] & labels[0, row]))
    for word in range(1, labels.shape[0]):
        for row in range(labels.shape[1]):
            gains[row] += np.uint16(popcount(query[word] & labels[word, row]))


@compiled
def fill_average_precision(
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
    harmonic: np.ndarray,
    inverse: np.ndarray,
    precision: np.ndarray,
    relevant: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Average precision of each query, float64 (q,), and its number of relevant rows, int64 (q,), into the last two.

    `harmonic` and `inverse` are `harmonic_sums(n)`.
    """
    n = database.shape[1]
    for q in range(len(queries)):
        keys = np.empty(n, np.uint16)  # of each row: twice its distance, plus one where it is relevant
        fill_distances(queries[q], database, keys)
        one_word = minimum == 1 and len(given) == 0 and len(labels) == 1
        gains = np.empty(0 if one_word else n, np.uint16)
        if one_word:
            for row in range(n):
                keys[row] = (keys[row] << 1) | np.uint16((query_labels[q, 0] & labels[0, row]) != 0)
        else:
            fill_gains(query_labels[q], labels, given[q] if len(given) else given[:0].reshape(0), gains)
            for row in range(n):
                keys[row] = (keys[row] << 1) | np.uint16(gains[row] >= minimum)
        counts = _count(keys, k_bits)
        R = 0
        for distance in range(k_bits + 1):
            R += counts[2 * distance + 1]
        relevant[q] = R
        if R:
            if ties == INDEX:
                precision[q] = _precision_by_index(keys, counts, k_bits, R, top, normalizer, inverse)
            elif ties == EXPECTED:
                precision[q] = expected_precision(counts, k_bits, R, top, normalizer, harmonic)
            else:
                precision[q] = _precision_at_best_or_worst(counts, k_bits, R, top, normalizer, ties == OPTIMISTIC)


@compiled
def harmonic_sums(n: int) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Sums 1 + 1/2 + ... + 1/i, and 1/i, for i from 0 (where both are 0) to n."""
    sums, inverse = np.zeros(n + 1), np.zeros(n + 1)
    for i in range(1, n + 1):
        inverse[i] = 1.0 / i
        sums[i] = sums[i - 1] + inverse[i]
    return sums, inverse


@compiled
def _count(keys: np.ndarray, k_bits: int) -> np.ndarray:  # pragma: no cover - compiled
    """Rows of each key, int64 (2 k + 2,). Four tables in turn: successive equal keys do not wait for each other."""
    tables = np.zeros((4, 2 * k_bits + 2), np.int64)
    whole = len(keys) // 4 * 4
    for row in range(0, whole, 4):
        tables[0, keys[row]] += 1
        tables[1, keys[row + 1]] += 1
        tables[2, keys[row + 2]] += 1
        tables[3, keys[row + 3]] += 1
    for row in range(whole, len(keys)):
        tables[0, keys[row]] += 1
    return tables[0] + tables[1] + tables[2] + tables[3]


@compiled
def limits(R: int, top: int, normalizer: int) -> tuple[int, int]:  # pragma: no cover - compiled
    """Up to which rank, and up to how many relevant rows, precision is summed."""
    if normalizer == LINEAGE:
        return np.iinfo(np.int64).max, min(top, R)
    return top, R


@compiled
def normalized(total: float, hits: int, R: int, top: int, normalizer: int) -> float:  # pragma: no cover - compiled
    """AP from the sum of precisions at `hits` relevant rows."""
    if normalizer == HITS:
        return total / hits if hits else 0.0
    return total / min(top, R)


@numba.njit(inline="always")
def _advance(
    key: int, places: np.ndarray, inverse: np.ndarray, steps: np.ndarray, weights: np.ndarray
) -> float:  # pragma: no cover - compiled
    """Rank the next row: the precision at its rank where it is relevant, else 0."""
    is_relevant, distance = np.uint64(key & 1), np.uint64(key >> 1)  # unsigned: no test for a negative index
    place = places[distance] + steps[is_relevant]
    places[distance] = place
    return np.float64(np.int64(place >> _32)) * inverse[place & _LOW] * weights[is_relevant]


@compiled
def _precision_by_index(
    keys: np.ndarray, counts: np.ndarray, k_bits: int, R: int, top: int, normalizer: int, inverse: np.ndarray
) -> float:  # pragma: no cover - compiled
    """Ties in database order."""
    # per distance, the rank so far in the low half of a word, relevant rows so far in the high half: one addition
    places = np.empty(k_bits + 1, np.uint64)
    steps = np.array([1, (1 << 32) | 1], np.uint64)  # of an irrelevant and of a relevant row
    weights = np.array([0.0, 1.0])
    before = np.uint64(0)
    for distance in range(k_bits + 1):
        places[distance] = before
        for relevant in range(2):
            before += np.uint64(counts[2 * distance + relevant]) * steps[relevant]
    total, hits = 0.0, 0
    if top >= len(keys):
        second, third, fourth = 0.0, 0.0, 0.0  # four sums in turn: an addition does not wait for the one before it
        whole = len(keys) // 4 * 4
        for row in range(0, whole, 4):
            total += _advance(keys[row], places, inverse, steps, weights)
            second += _advance(keys[row + 1], places, inverse, steps, weights)
            third += _advance(keys[row + 2], places, inverse, steps, weights)
            fourth += _advance(keys[row + 3], places, inverse, steps, weights)
        for row in range(whole, len(keys)):
            total += _advance(keys[row], places, inverse, steps, weights)
        return (total + second + third + fourth) / R
    last_rank, last_relevant = limits(R, top, normalizer)
    for row in range(len(keys)):
        distance, is_relevant = keys[row] >> 1, keys[row] & 1
        place = places[distance] + steps[is_relevant]
        places[distance] = place
        rank, rank_among_relevant = np.int64(place & _LOW), np.int64(place >> _32)
        if is_relevant and rank <= last_rank and rank_among_relevant <= last_relevant:
            total += rank_among_relevant / rank
            hits += 1
    return normalized(total, hits, R, top, normalizer)


@compiled
def _precision_at_best_or_worst(
    counts: np.ndarray, k_bits: int, R: int, top: int, normalizer: int, best: bool
) -> float:  # pragma: no cover - compiled
    """Ties with the relevant rows first, or last."""
    last_rank, last_relevant = limits(R, top, normalizer)
    total, hits, N, C = 0.0, 0, 0, 0
    for distance in range(k_bits + 1):
        others, r = counts[2 * distance], counts[2 * distance + 1]
        start = N if best else N + others
        for j in range(1, r + 1):
            if start + j > last_rank or C + j > last_relevant:
                break
            total += (C + j) / (start + j)
            hits += 1
        N += others + r
        C += r
    return normalized(total, hits, R, top, normalizer)


@compiled
def expected_precision(
    counts: np.ndarray, k_bits: int, R: int, top: int, normalizer: int, harmonic: np.ndarray
) -> float:  # pragma: no cover - compiled
    """The mean over all orders within ties, in closed form.

    A tie of n rows, r of them relevant, after N rows with C relevant ones: its position j is relevant with
    probability r / n, and then has (j - 1)(r - 1) / (n - 1) relevant rows of the tie before it on average. Only the
    tie in which a cut-off falls needs the (negative) hypergeometric distribution.
    """
    last_rank, last_relevant = limits(R, top, normalizer)
    total, N, C = 0.0, 0, 0
    for distance in range(k_bits + 1):
        r = counts[2 * distance + 1]
        n = counts[2 * distance] + r
        if n == 0:
            continue
        if C + r > last_relevant:
            return (total + _first_relevant(n, r, last_relevant - C, N, C)) / last_relevant
        m = min(n, last_rank - N)
        if normalizer == HITS and m < n:
            return _expected_hits(total, n, r, m, N, C, harmonic)
        total += _tie_sum(n, r, m, N, C, harmonic)
        N += n
        C += r
        if N >= last_rank or C >= last_relevant:
            break
    return normalized(total, C, R, top, normalizer)


@compiled
def expected_precisions(
    counts: np.ndarray, k_bits: int, top: int, normalizer: int, n: int
) -> np.ndarray:  # pragma: no cover - compiled
    """`expected_precision` of each query, float64 (q,), from counts (q, 2 k + 2); n rows are ranked."""
    harmonic, _ = harmonic_sums(n)
    precision = np.zeros(len(counts))
    for q in range(len(counts)):
        R = counts[q, 1::2].sum()
        if R:
            precision[q] = expected_precision(counts[q], k_bits, R, top, normalizer, harmonic)
    return precision


@compiled
def _tie_sum(n: int, r: int, m: int, N: int, C: int, harmonic: np.ndarray) -> float:  # pragma: no cover - compiled
    """Expected sum of precisions at the relevant rows among the first m positions of a tie."""
    inverse = harmonic[N + m] - harmonic[N]  # sum of 1 / (N + j)
    before = (r - 1) / (n - 1) * (m - (N + 1) * inverse) if n > 1 else 0.0  # of (j - 1)(r - 1)/(n - 1)/(N + j)
    return r / n * ((C + 1) * inverse + before)


@compiled
def _log_choose(n: int, k: int) -> float:  # pragma: no cover - compiled
    """Logarithm of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


@compiled
def _expected_hits(
    total: float, n: int, r: int, m: int, N: int, C: int, harmonic: np.ndarray
) -> float:  # pragma: no cover - compiled
    """Expected (sum of precisions) / (relevant rows) where the cut falls after m of a tie's n rows."""
    expected = 0.0
    for h in range(max(0, m - (n - r)), min(r, m) + 1):
        if C + h:
            chance = math.exp(_log_choose(r, h) + _log_choose(n - r, m - h) - _log_choose(n, m))
            expected += chance * (total + _tie_sum(m, h, m, N, C, harmonic)) / (C + h)
    return expected


@compiled
def _first_relevant(n: int, r: int, t: int, N: int, C: int) -> float:  # pragma: no cover - compiled
    """Expected sum of precisions at the first t of a tie's r relevant rows.

    The position of the i-th one has a negative hypergeometric distribution, whose terms are summed from its mean on,
    each from the one before, until they vanish.
    """
    total = 0.0
    for i in range(1, t + 1):
        first, last = i * (n + 1) // (r + 1), n - r + i
        at_mean = math.exp(_log_choose(first - 1, i - 1) + _log_choose(n - first, r - i) - _log_choose(n, r))
        chance = at_mean
        for j in range(first, last + 1):
            total += chance * (C + i) / (N + j)
            if chance < _VANISHING or j == last:
                break
            chance *= j * (last - j) / ((j - i + 1) * (n - j))
        chance = at_mean
        for j in range(first - 1, i - 1, -1):
            chance *= (j - i + 1) * (n - j) / (j * (last - j))
            total += chance * (C + i) / (N + j)
            if chance < _VANISHING:
                break
    return total
