"""Exact joins of packed codes: all pairs of rows within a Hamming radius, without comparing every row with every other.

Rows of the same code are handled as one *group*. The distinct codes are joined by multi-index hashing (Norouzi,
Punjani and Fleet, "Fast exact search in Hamming space with multi-index hashing", TPAMI 2014, section 3): m disjoint
substrings of the code have limits t_1 ... t_m with sum(t_i + 1) = radius + 1. Two codes within the radius differ in at
most t_i bits of some substring i, as their distance would be at least radius + 1 otherwise. So per substring, codes are
put into buckets, and only buckets whose keys are that close are compared. A pair is reported at its first such i.
"""

from collections.abc import Iterator
from math import comb
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from math_hash.errors import InputError
from math_hash.hamming.codes import as_words
from math_hash.hamming.kernels import compiled, popcount

CHUNK = 1 << 20  # the most pairs that are handed over at once
_WORK = 1 << 26  # comparisons between two looks at the keyboard and the progress bar
_LONGEST_KEY = 24  # bits
_PROBE, _SORT = 4, 50  # costs of looking up a bucket, and of putting a code into one, in comparisons


class Pairs(NamedTuple):
    """Pairs of rows: the numbers (or ids) of the first and the second, each (m,), and their distances, (m,)."""

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray


class Groups(NamedTuple):
    """Rows grouped by their code, in the order of `codes`.

    Attributes:
        codes: the distinct codes, uint64 (words, u).
        rows: row numbers, group after group, int64 (n,), rising within a group.
        starts: where each group starts in `rows`, int64 (u + 1,).
    """

    codes: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, packed: np.ndarray) -> "Groups":
        """Group packed codes, uint8 (n, bytes).

        >>> Groups.of(np.array([[7], [5], [7]], np.uint8)).rows.tolist()
        [1, 0, 2]
        """
        words = as_words(packed)
        rows = np.lexsort(words.T)
        words, begins = words[rows], np.ones(len(rows), bool)
        begins[1:] = (words[1:] != words[:-1]).any(axis=1)
        starts = np.flatnonzero(begins)
        return cls(np.ascontiguousarray(words[starts].T), rows, np.append(starts, len(rows)))


def require_radius(radius: int, k_bits: int) -> None:
    """Raises InputError unless 0 <= radius <= k_bits."""
    if not 0 <= radius <= k_bits:
        raise InputError(f"radius {radius}; expected 0 to {k_bits}, the number of bits")


def pairs_within(packed: np.ndarray, k_bits: int, radius: int, progress: bool = False) -> Iterator[Pairs]:
    """All pairs of rows, first < second, at a Hamming distance <= radius, each once, in no particular order.

    Args:
        packed: codes, uint8 (n, ceil(k_bits / 8)).
        radius: from 0 to k_bits.
        progress: show a progress bar.

    Returns:
        An iterator over chunks of at most `CHUNK` pairs, so that memory is bounded however many there are.

    Raises:
        InputError: the radius is out of range.

    >>> [pairs] = pairs_within(np.array([[0b1111], [0b0000], [0b0111]], np.uint8), k_bits=8, radius=1)
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distances.tolist()
    ([0], [2], [1])
    """
    require_radius(radius, k_bits)
    groups = Groups.of(packed)
    starts, sizes = groups.starts[:-1], np.diff(groups.starts)

    def chunks() -> Iterator[Pairs]:
        several = np.flatnonzero(sizes > 1)
        begin, size = starts[several], sizes[several]
        for pairs in _products(groups.rows, (begin, size), (begin, size), np.zeros(len(several), np.uint16)):
            yield _only(pairs, pairs.first < pairs.second)
        for one, other, distances in join_groups(groups, k_bits, radius, progress):
            both = (starts[one], sizes[one]), (starts[other], sizes[other])
            for first, second, expanded in _products(groups.rows, *both, distances):
                yield Pairs(np.minimum(first, second), np.maximum(first, second), expanded)

    return (pairs for pairs in chunks() if len(pairs.first))


def pairs_between(
    packed: np.ndarray, others: np.ndarray, k_bits: int, radius: int, progress: bool = False
) -> Iterator[Pairs]:
    """All pairs of a row of `packed` and a row of `others` within the radius; otherwise as `pairs_within`.

    >>> [pairs] = pairs_between(np.array([[1], [1]], np.uint8), np.array([[3], [7]], np.uint8), k_bits=8, radius=1)
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distances.tolist()
    ([0, 1], [0, 0], [1, 1])
    """
    require_radius(radius, k_bits)
    groups, n = Groups.of(np.concatenate([packed, others])), len(packed)
    starts, sizes = groups.starts[:-1], np.diff(groups.starts)
    own = np.diff(np.append(0, np.cumsum(groups.rows < n))[groups.starts])  # rows of `packed`; they come first
    mine, theirs = (starts, own), (starts + own, sizes - own)

    def chunks() -> Iterator[Pairs]:
        yield from _products(groups.rows, mine, theirs, np.zeros(len(starts), np.uint16))
        for one, other, distances in join_groups(groups, k_bits, radius, progress):
            for a, b in ((one, other), (other, one)):
                sides = (mine[0][a], mine[1][a]), (theirs[0][b], theirs[1][b])
                yield from _products(groups.rows, *sides, distances)

    return (pairs._replace(second=pairs.second - n) for pairs in chunks() if len(pairs.first))


def join_groups(groups: Groups, k_bits: int, radius: int, progress: bool = False) -> Iterator[Pairs]:
    """All pairs of different groups within the radius, each once, as numbers of groups; otherwise as `pairs_within`."""
    codes = groups.codes
    count = codes.shape[1]
    if radius == 0 or count < 2:
        return
    substrings = _choose_substrings(codes, k_bits, radius)
    masks = np.zeros((len(substrings), len(codes)), np.uint64)
    for mask, (positions, _) in zip(masks, substrings, strict=True):
        np.bitwise_or.at(mask, positions // 64, np.uint64(1) << (positions % 64).astype(np.uint64))
    limits = np.array([limit for _, limit in substrings])
    found = Pairs(np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64), np.empty(CHUNK, np.uint16))
    with tqdm(total=len(substrings) * count, desc="comparing", unit="code", disable=not progress) as bar:
        for number, (positions, limit) in enumerate(substrings):
            starts, places = _fill_buckets(codes, positions)
            in_order = codes[:, places]
            keys = np.arange(1 << len(positions))
            probes = keys[np.bitwise_count(keys) <= limit]
            state = np.zeros(4, np.int64)
            while state[0] < len(keys):
                size = _compare_buckets(
                    in_order, places, starts, probes, radius, masks[:number], limits[:number], state, _WORK, *found
                )
                bar.update(number * count + int(starts[state[0]]) - bar.n)
                if size:
                    yield Pairs(*(values[:size].copy() for values in found))


def _choose_substrings(codes: np.ndarray, k_bits: int, radius: int) -> list[tuple[np.ndarray, int]]:
    """Positions of the bits, int64 (s,), and the limit of each substring, chosen for the least expected work.

    The work is that of structureless codes. Bits are dealt out from the most to the least balanced one, so that all
    substrings discriminate well; a substring that is too long for a key does without its last bits, which is exact too.
    """
    count = codes.shape[1]
    longest = min(_LONGEST_KEY, count.bit_length() + 1)

    def lengths(m: int) -> list[tuple[int, int]]:
        return [(min((k_bits - i - 1) // m + 1, longest), (radius - i) // m) for i in range(m)]

    def work(m: int) -> float:
        compared = 0.0
        for length, limit in lengths(m):
            probes = sum(comb(length, bits) for bits in range(limit + 1))
            compared += probes * (_PROBE * min(count, 1 << length) + count**2 / 2 ** (length + 1)) + _SORT * count
        return compared

    m = min(range(1, min(radius + 1, k_bits) + 1), key=work)
    sample = codes[:, :: -(-count // 65536)]
    bits = np.unpackbits(np.ascontiguousarray(sample.T).view(np.uint8), axis=1, bitorder="little")
    order = np.argsort(np.abs(bits.mean(axis=0) - 0.5), kind="stable")[:k_bits]
    return [(order[i::m][:length], limit) for i, (length, limit) in enumerate(lengths(m))]


def _products(
    rows: np.ndarray,
    one: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    distances: np.ndarray,
) -> Iterator[Pairs]:
    """Pairs of each row in a range of `rows` and each in another, in chunks; ranges are starts and sizes, (m,) each."""
    (start, size), (other_start, other_size) = one, other
    ends = np.cumsum(size * other_size)
    for begin in range(0, int(ends[-1]) if len(ends) else 0, CHUNK):
        numbers = np.arange(begin, min(begin + CHUNK, ends[-1]))
        pair = np.searchsorted(ends, numbers, side="right")
        numbers -= (ends - size * other_size)[pair]
        place, other_place = np.divmod(numbers, other_size[pair])
        yield Pairs(rows[start[pair] + place], rows[other_start[pair] + other_place], distances[pair])


def _only(pairs: Pairs, kept: np.ndarray) -> Pairs:
    return Pairs(*(values[kept] for values in pairs))


@compiled
def _fill_buckets(
    codes: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Counting sort by the key that the bits at some positions form: starts of the buckets, and the codes' places."""
    count, length = codes.shape[1], len(positions)
    keys, starts = np.zeros(count, np.int64), np.zeros((1 << length) + 1, np.int64)
    for bit in range(length):
        plane, shift = codes[positions[bit] // 64], np.uint64(positions[bit] % 64)
        for place in range(count):
            keys[place] |= np.int64((plane[place] >> shift) & np.uint64(1)) << bit
    for place in range(count):
        starts[keys[place] + 1] += 1
    for key in range(1 << length):
        starts[key + 1] += starts[key]
    following, places = starts.copy(), np.empty(count, np.int64)
    for place in range(count):
        places[following[keys[place]]] = place
        following[keys[place]] += 1
    return starts, places


@compiled
def _compare_buckets(
    codes: np.ndarray,
    places: np.ndarray,
    starts: np.ndarray,
    probes: np.ndarray,
    radius: int,
    masks: np.ndarray,
    limits: np.ndarray,
    state: np.ndarray,
    most_work: int,
    first: np.ndarray,
    second: np.ndarray,
    distances: np.ndarray,
) -> int:  # pragma: no cover - compiled
    """Compare the codes of buckets whose keys differ by a probe, from `state` on: a key, a probe, and two codes.

    Stops when the arrays are full or the most work is done; the state then says where to go on, at the end the number
    of keys.
    `masks` and `limits` are those of the substrings before, which have reported the pairs that are close there.

    Returns:
        The number of pairs written.
    """
    words, keys, size, work = codes.shape[0], len(starts) - 1, 0, 0
    for key in range(state[0], keys):
        for probe in range(state[1], len(probes) if starts[key] < starts[key + 1] else 0):
            other = key ^ probes[probe]
            for a in range(max(starts[key], state[2]), starts[key + 1] if other >= key else 0):
                begin, end = a + 1 if other == key else starts[other], starts[other + 1]
                if work > most_work:
                    state[0], state[1], state[2], state[3] = key, probe, a, 0
                    return size
                work += end - begin + 1
                for b in range(max(begin, state[3]), end):
                    distance = np.uint64(0)
                    for word in range(words):
                        distance += popcount(codes[word, a] ^ codes[word, b])
                    if distance <= radius and not _is_close_before(codes, a, b, masks, limits):
                        if size == len(first):
                            state[0], state[1], state[2], state[3] = key, probe, a, b
                            return size
                        first[size], second[size], distances[size] = places[a], places[b], distance
                        size += 1
                state[3] = 0
            state[2] = 0
        state[1] = 0
    state[0] = keys
    return size


@compiled
def _is_close_before(
    codes: np.ndarray, a: int, b: int, masks: np.ndarray, limits: np.ndarray
) -> bool:  # pragma: no cover - compiled
    """Whether an earlier substring differs in no more bits than its limit."""
    for number in range(len(limits)):
        distance = np.uint64(0)
        for word in range(codes.shape[0]):
            distance += popcount((codes[word, a] ^ codes[word, b]) & masks[number, word])
        if distance <= limits[number]:
            return True
    return False
