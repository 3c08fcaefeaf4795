"""The join of near duplicates compared with a plain brute force over all pairs, in blocks, in one process.

    python benchmarks/join.py [--rows 1000000] [--plain-rows 100000] [--radius 2 4]

Codes of 64 bits, clustered (around 2,000 centers, each bit flipped with probability .08) and structureless; one thread.
"""

import argparse
from functools import partial

import numpy as np
from timing import best

from math_hash.hamming.groups import near_duplicates
from math_hash.hamming.join import pairs_within


def clustered(rows: int) -> np.ndarray:
    """Packed codes, uint8 (rows, 8)."""
    rng = np.random.default_rng(0)
    centers, codes = structureless(2000), np.empty((rows, 8), np.uint8)
    for start in range(0, rows, 10**6):
        n = min(10**6, rows - start)
        codes[start : start + n] = centers[rng.integers(0, 2000, n)] ^ np.packbits(rng.random((n, 64)) < 0.08, axis=1)
    return codes


def structureless(rows: int) -> np.ndarray:
    """Packed codes, uint8 (rows, 8)."""
    return np.random.default_rng(0).integers(0, 256, (rows, 8), dtype=np.uint8)


def joined(codes: np.ndarray, radius: int) -> int:
    """The number of pairs within the radius, by the join."""
    return sum(len(pairs.first) for pairs in pairs_within(codes, 64, radius))


def compared(codes: np.ndarray, radius: int) -> int:
    """The same by comparing each code with all later ones, 16 at a time."""
    words, count = codes.view(np.uint64)[:, 0], 0
    for start in range(0, len(words), 16):
        near = np.bitwise_count(words[start : start + 16, None] ^ words[start:]) <= radius
        count += int(near.sum()) - int(near[:, :16].sum() + len(near)) // 2  # the first square holds each pair twice
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6, help="codes to join (1000000)")
    parser.add_argument("--plain-rows", type=int, default=10**5, help="codes to compare by brute force too (100000)")
    parser.add_argument("--radius", type=int, nargs="+", default=[2, 4], help="Hamming radii (2 4)")
    arguments = parser.parse_args()
    near_duplicates(np.arange(9, dtype=np.uint8)[:, None], 8, 1)  # loads the compiled code, or compiles it
    for draw in (clustered, structureless):
        few, codes = draw(arguments.plain_rows), draw(arguments.rows)
        for radius in arguments.radius:
            ours, pairs = best(partial(joined, few, radius), 3)
            plain, wanted = best(partial(compared, few, radius), 1)
            seconds, many = best(partial(joined, codes, radius), 1)
            grouping, groups = best(partial(near_duplicates, codes, 64, radius), 1)
            print(
                f"{draw.__name__}, radius {radius}\n"
                f"  {len(few):9} codes  {ours:7.2f} s  brute force {plain:7.2f} s  ratio {plain / ours:6.1f}  "
                f"same number of pairs: {pairs == wanted}\n"
                f"  {len(codes):9} codes  {seconds:7.2f} s  {many} pairs; grouped in {grouping:.2f} s, "
                f"{len(groups)} groups"
            )


if __name__ == "__main__":
    main()
