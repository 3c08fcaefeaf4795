"""The compiled core of every ranking metric, over packed codes.

One pass over the database gives each row's Hamming distance (population count of 64-bit words) and its number of
shared labels. A k-bit code has only k + 1 distances, so ranks come from counting rows a distance, without sorting.

Layout: queries uint64 (q, words), one row a query; the database transposed, uint64 (words, n), so that the compiler
turns the loop over rows into vector instructions. Labels likewise. Where a caller gives relevance itself, `gains` is
uint16 (q, n) and the labels are not read; else it has no columns.
"""

import math

import numba
import numpy as np

INDEX, OPTIMISTIC, PESSIMISTIC, EXPECTED = range(4)
LINEAGE, HITS, MIN = range(3)

_compiled = numba.njit(cache=True, nogil=True)
_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_ONES, _1, _2, _4, _56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@numba.njit(inline="always")
def popcount(word):  # pragma: no cover - compiled
    """Bits set in a uint64: sums of pairs, nibbles and bytes, which LLVM recognises and makes one instruction."""
    word = word - ((word >> _1) & _M1)
    word = (word & _M2) + ((word >> _2) & _M2)
    word = (word + (word >> _4)) & _M4
    return (word * _ONES) >> _56


@_compiled
def fill_distances(query, database, distances):  # pragma: no cover - compiled
    """Hamming distances of one query, uint64 (words,), to a database, uint64 (words, n), into uint16 (n,)."""
    for row in range(database.shape[1]):
        distances[row] = np.uint16(popcount(query[0] ^ database[0, row]))
    for word in range(1, database.shape[0]):
        for row in range(database.shape[1]):
            distances[row] += np.uint16(popcount(query[word] ^ database[word, row]))


@_compiled
def _fill_gains(query, labels, given, gains):  # pragma: no cover - compiled
    """Numbers of shared labels, or what the caller gave, into uint16 (n,)."""
    if len(given):
        gains[:] = given
        return
    for row in range(labels.shape[1]):
        gains[row] = np.uint16(popcount(query[0] & labels[0, row]))
    for word in range(1, labels.shape[0]):
        for row in range(labels.shape[1]):
            gains[row] += np.uint16(popcount(query[word] & labels[word, row]))


@numba.njit(parallel=True, cache=True, nogil=True)
def average_precision(
    queries, database, query_labels, labels, given, k_bits, minimum, top, normalizer, ties
):  # pragma: no cover - compiled
    """Average precision of each query, float64 (q,), and its number of relevant rows, int64 (q,)."""
    precision, relevant = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
    n = database.shape[1]
    harmonic, inverse = _harmonic(n)
    for q in numba.prange(len(queries)):
        keys = np.empty(n, np.uint16)  # of a row: twice its distance, plus one where it is relevant
        fill_distances(queries[q], database, keys)
        one_word = minimum == 1 and len(given) == 0 and len(labels) == 1
        gains = np.empty(0 if one_word else n, np.uint16)
        if one_word:
            for row in range(n):
                keys[row] = (keys[row] << 1) | np.uint16((query_labels[q, 0] & labels[0, row]) != 0)
        else:
            _fill_gains(query_labels[q], labels, given[q] if len(given) else given[:0].reshape(0), gains)
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
                precision[q] = _expected_precision(counts, k_bits, R, top, normalizer, harmonic)
            else:
                precision[q] = _precision_at_best_or_worst(counts, k_bits, R, top, normalizer, ties == OPTIMISTIC)
    return precision, relevant


@_compiled
def _harmonic(n):  # pragma: no cover - compiled
    """Sums 1 + 1/2 + ... + 1/i, and 1/i, for i from 0 (where both are 0) to n."""
    sums, inverse = np.zeros(n + 1), np.zeros(n + 1)
    for i in range(1, n + 1):
        inverse[i] = 1.0 / i
        sums[i] = sums[i - 1] + inverse[i]
    return sums, inverse


@_compiled
def _count(keys, k_bits):  # pragma: no cover - compiled
    """Rows of each key, int64 (2 k + 2,). Four tables in turn: equal keys in a row do not wait for each other."""
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


@_compiled
def _count_gains(distances, gains, k_bits, most):  # pragma: no cover - compiled
    """Rows of each distance and gain, int64 (k + 1, most + 1); two tables in turn, as in `_count`."""
    tables = np.zeros((2, k_bits + 1, most + 1), np.int64)
    for row in range(0, len(gains) - 1, 2):
        tables[0, distances[row], gains[row]] += 1
        tables[1, distances[row + 1], gains[row + 1]] += 1
    if len(gains) % 2:
        tables[0, distances[-1], gains[-1]] += 1
    return tables[0] + tables[1]


@_compiled
def _limits(R, top, normalizer):  # pragma: no cover - compiled
    """Up to which rank, and up to how many relevant rows, precision is summed."""
    if normalizer == LINEAGE:
        return np.iinfo(np.int64).max, min(top, R)
    return top, R


@_compiled
def _normalized(total, hits, R, top, normalizer):  # pragma: no cover - compiled
    if normalizer == HITS:
        return total / hits if hits else 0.0
    return total / min(top, R)


@numba.njit(inline="always")
def _advance(key, places, inverse, steps, weights):  # pragma: no cover - compiled
    """Take the next row: its precision where it is relevant, else 0."""
    is_relevant, distance = np.uint64(key & 1), np.uint64(key >> 1)  # unsigned: no test for a negative index
    place = places[distance] + steps[is_relevant]
    places[distance] = place
    return np.float64(np.int64(place >> _32)) * inverse[place & _LOW] * weights[is_relevant]


@_compiled
def _precision_by_index(keys, counts, k_bits, R, top, normalizer, inverse):  # pragma: no cover - compiled
    # a distance's rank so far in the low half of a word, relevant rows so far in the high half: one addition for both
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
    last_rank, last_relevant = _limits(R, top, normalizer)
    for row in range(len(keys)):
        distance, is_relevant = keys[row] >> 1, keys[row] & 1
        place = places[distance] + steps[is_relevant]
        places[distance] = place
        rank, found = np.int64(place & _LOW), np.int64(place >> _32)
        if is_relevant and rank <= last_rank and found <= last_relevant:
            total += found / rank
            hits += 1
    return _normalized(total, hits, R, top, normalizer)


@_compiled
def _precision_at_best_or_worst(counts, k_bits, R, top, normalizer, best):  # pragma: no cover - compiled
    """Ties with the relevant rows first, or last."""
    last_rank, last_relevant = _limits(R, top, normalizer)
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
    return _normalized(total, hits, R, top, normalizer)


@_compiled
def _expected_precision(counts, k_bits, R, top, normalizer, harmonic):  # pragma: no cover - compiled
    """The mean over all orders within ties, in closed form.

    A tie of n rows, r of them relevant, after N rows with C relevant ones: its position j is relevant with
    probability r / n, and then has (j - 1)(r - 1) / (n - 1) relevant rows of the tie before it on average. Only the
    tie in which a cut-off falls needs the (negative) hypergeometric distribution.
    """
    last_rank, last_relevant = _limits(R, top, normalizer)
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
    return _normalized(total, C, R, top, normalizer)


@_compiled
def _tie_sum(n, r, m, N, C, harmonic):  # pragma: no cover - compiled
    """Expected sum of precisions at the relevant rows among the first m positions of a tie."""
    inverse = harmonic[N + m] - harmonic[N]  # sum of 1 / (N + j)
    before = (r - 1) / (n - 1) * (m - (N + 1) * inverse) if n > 1 else 0.0  # of (j - 1)(r - 1)/(n - 1)/(N + j)
    return r / n * ((C + 1) * inverse + before)


@_compiled
def _log_choose(n, k):  # pragma: no cover - compiled
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


@_compiled
def _expected_hits(total, n, r, m, N, C, harmonic):  # pragma: no cover - compiled
    """Expected (sum of precisions) / (relevant rows) where the cut falls after m of a tie's n rows."""
    expected = 0.0
    for h in range(max(0, m - (n - r)), min(r, m) + 1):
        if C + h:
            chance = math.exp(_log_choose(r, h) + _log_choose(n - r, m - h) - _log_choose(n, m))
            inside = _tie_sum(m, h, m, N, C, harmonic) if m else 0.0
            expected += chance * (total + inside) / (C + h)
    return expected


@_compiled
def _first_relevant(n, r, t, N, C):  # pragma: no cover - compiled
    """Expected sum of precisions at the first t of a tie's r relevant rows."""
    total = 0.0
    for i in range(1, t + 1):
        for j in range(i, n - r + i + 1):  # the i-th relevant row stands at position j
            log_chance = _log_choose(j - 1, i - 1) + _log_choose(n - j, r - i) - _log_choose(n, r)
            total += math.exp(log_chance) * (C + i) / (N + j)
    return total


@numba.njit(parallel=True, cache=True, nogil=True)
def all_metrics(
    queries, database, query_labels, labels, given, k_bits, minimum, top, normalizer, ties, most, at, discount
):  # pragma: no cover - compiled
    """Every metric of each query, from one ranking.

    Args beyond `average_precision`'s: most, the largest gain; at, cut-off ranks, rising, int64 (c,); discount,
    1 / log2(1 + rank) for ranks 1 ... at[-1].

    Returns:
        AP over all rows and at `top`, (q, 2); precision, recall, NDCG and ACG at each cut-off, (q, 4, c); weighted AP
        (q,); rows and relevant rows within each radius, (q, 2, k + 1); relevant rows, (q,).
    """
    q_count, n, cuts = len(queries), database.shape[1], len(at)
    precision, graded, at_cut = np.zeros((q_count, 2)), np.zeros(q_count), np.zeros((q_count, 4, cuts))
    within, relevant = np.zeros((q_count, 2, k_bits + 1), np.int64), np.zeros(q_count, np.int64)
    harmonic, inverse = _harmonic(n)
    worth = 2.0 ** np.arange(most + 1) - 1.0  # of a gain, in DCG
    discounts = np.zeros(len(discount) + 1)
    discounts[1:] = np.cumsum(discount)
    for q in numba.prange(q_count):
        distances, gains = np.empty(n, np.uint16), np.empty(n, np.uint16)
        fill_distances(queries[q], database, distances)
        _fill_gains(query_labels[q], labels, given[q] if len(given) else given[:0].reshape(0), gains)
        table = _count_gains(distances, gains, k_bits, most)
        counts = np.zeros(2 * k_bits + 2, np.int64)
        by_gain = np.zeros(most + 1, np.int64)
        N, R = 0, 0
        for distance in range(k_bits + 1):
            for gain in range(most + 1):
                counts[2 * distance + (gain >= minimum)] += table[distance, gain]
                by_gain[gain] += table[distance, gain]
            N += counts[2 * distance] + counts[2 * distance + 1]
            R += counts[2 * distance + 1]
            within[q, 0, distance], within[q, 1, distance] = N, R
        relevant[q] = R
        if ties == EXPECTED:
            found = _expected_sums(table, minimum, at, discounts, at_cut[q], harmonic, worth)
            if R:
                precision[q, 0] = _expected_precision(counts, k_bits, R, n, LINEAGE, harmonic)
                precision[q, 1] = _expected_precision(counts, k_bits, R, top, normalizer, harmonic)
        else:
            if ties == INDEX:
                ranked = _rank_by_index(distances, gains, counts, k_bits)
            else:
                ranked = _rank_by_gain(table, n, ties == OPTIMISTIC)
            found = _ranked_sums(
                ranked, minimum, at, discount, at_cut[q], precision[q], R, top, normalizer, inverse, worth
            )
        if R:
            graded[q] = found / R
        ideal = _ideal_gain(by_gain, at, discounts, worth)
        for cut in range(cuts):
            depth = min(at[cut], n)
            at_cut[q, 1, cut] = at_cut[q, 0, cut] / R if R else 0.0
            at_cut[q, 0, cut] /= depth
            at_cut[q, 2, cut] = at_cut[q, 2, cut] / ideal[cut] if ideal[cut] else 0.0
            at_cut[q, 3, cut] /= depth
    return precision, at_cut, graded, within, relevant


@_compiled
def _rank_by_index(distances, gains, counts, k_bits):  # pragma: no cover - compiled
    """Gains in the order of the ranking, ties by database order: a counting sort."""
    place = np.zeros(k_bits + 2, np.uint64)
    for distance in range(k_bits + 1):
        place[distance + 1] = place[distance] + np.uint64(counts[2 * distance] + counts[2 * distance + 1])
    ranked = np.empty(len(gains), np.uint16)
    for row in range(len(gains)):
        distance = distances[row]
        ranked[place[distance]] = gains[row]
        place[distance] += _1
    return ranked


@_compiled
def _rank_by_gain(table, n, best):  # pragma: no cover - compiled
    """Gains in the order of the ranking, ties with the largest gain first, or last."""
    ranked, place, most = np.empty(n, np.uint16), 0, table.shape[1] - 1
    for distance in range(table.shape[0]):
        for step in range(most + 1):
            gain = most - step if best else step
            for _ in range(table[distance, gain]):
                ranked[place] = gain
                place += 1
    return ranked


@_compiled
def _ranked_sums(
    ranked, minimum, at, discount, at_cut, precision, R, top, normalizer, inverse, worth
):  # pragma: no cover - compiled
    """Walk down a ranking. Fills sums at the cut-offs and both APs; returns the sum of ACG at the relevant rows."""
    n, rank = len(ranked), 0
    found, gained, discounted = 0, 0, 0.0
    total, graded = 0.0, 0.0
    for cut in range(len(at)):
        end = min(at[cut], n)
        for place in range(rank, end):
            gain, weight = ranked[place], inverse[place + 1]
            is_relevant = np.int64(gain >= minimum)  # multiplied, not branched on: it has no pattern to predict
            found += is_relevant
            gained += gain
            discounted += worth[gain] * discount[place]
            total += (is_relevant * found) * weight
            graded += (is_relevant * gained) * weight
        rank = max(rank, end)
        at_cut[0, cut], at_cut[2, cut], at_cut[3, cut] = found, discounted, gained
    for place in range(rank, n):  # the same below the last cut-off, where nothing is discounted
        gain, weight = ranked[place], inverse[place + 1]
        is_relevant = np.int64(gain >= minimum)
        found += is_relevant
        gained += gain
        total += (is_relevant * found) * weight
        graded += (is_relevant * gained) * weight
    if R:
        precision[0] = total / R
        precision[1] = _precision_at_top(ranked, minimum, R, top, normalizer, inverse)
    return graded


@_compiled
def _precision_at_top(ranked, minimum, R, top, normalizer, inverse):  # pragma: no cover - compiled
    """AP with a cut-off, from the top of a ranking."""
    last_rank, last_relevant = _limits(R, top, normalizer)
    total, found = 0.0, 0
    for place in range(min(last_rank, len(ranked))):
        if ranked[place] >= minimum:
            found += 1
            total += found * inverse[place + 1]
            if found == last_relevant:
                break
    return _normalized(total, found, R, top, normalizer)


@_compiled
def _expected_sums(table, minimum, at, discounts, at_cut, harmonic, worth):  # pragma: no cover - compiled
    """As `_ranked_sums`, in expectation over the orders within ties; the APs are computed elsewhere."""
    cut, N = 0, 0
    found, gained, discounted, graded = 0.0, 0.0, 0.0, 0.0
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
            at_cut[0, cut], at_cut[3, cut] = found + r * m / n, gained + gain_all * m / n
            at_cut[2, cut] = discounted + power / n * (discounts[N + m] - discounts[N])
            cut += 1
        if cut < len(at):
            discounted += power / n * (discounts[N + n] - discounts[N])
        N, found, gained = N + n, found + r, gained + gain_all
    return graded


@_compiled
def _ideal_gain(by_gain, at, discounts, worth):  # pragma: no cover - compiled
    """Discounted gain of the best possible ranking at each cut-off; `discounts` are sums over the first ranks."""
    ideal = np.zeros(len(at))
    for cut in range(len(at)):
        rank, depth = 0, min(at[cut], len(discounts) - 1)
        for gain in range(len(by_gain) - 1, 0, -1):
            end = min(rank + by_gain[gain], depth)
            ideal[cut] += worth[gain] * (discounts[end] - discounts[rank])
            rank = end
    return ideal
