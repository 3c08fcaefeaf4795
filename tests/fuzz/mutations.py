"""Damage to valid files: flipped bits, cuts, splices, and fields that say huge sizes. A seed always does the same."""

import random

_SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def flip(content: bytearray, rng: random.Random) -> None:
    """Flip up to eight bits."""
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def cut(content: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del content[rng.randrange(len(content)) :]


def splice(content: bytearray, rng: random.Random) -> None:
    """Put a piece of the file in another place, over what is there or between it."""
    start, place = rng.randrange(len(content)), rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 64)]
    content[place : place + rng.choice((0, len(piece)))] = piece * rng.choice((1, 1, 50))


def remove(content: bytearray, rng: random.Random) -> None:
    """Leave a piece out."""
    start = rng.randrange(len(content))
    del content[start : start + rng.randint(1, 64)]


def resize(content: bytearray, rng: random.Random) -> None:
    """Write a size into a field: a number of 1 to 8 bytes, more often near the start, where headers are."""
    width = rng.choice((1, 2, 4, 8))
    value = (rng.choice(_SIZES) % (1 << 8 * width)).to_bytes(width, rng.choice(("little", "big")))
    place = rng.randrange(min(len(content), rng.choice((64, 512, len(content)))))
    content[place : place + width] = value


def digits(content: bytearray, rng: random.Random) -> None:
    """Write another number in place of one in text: for JSON, headers of arrays, tables."""
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if places:
        place = rng.choice(places)
        content[place : place + 1] = rng.choice((b"-1", b"0", b"99999999999999999999", b"1e999", b"NaN", b"[" * 2000))


def mutated(content: bytes, seed: int) -> bytes:
    """The content with one to four kinds of damage."""
    rng, damaged = random.Random(seed), bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if damaged:
            rng.choice((flip, flip, cut, splice, remove, resize, resize, digits))(damaged, rng)
    return bytes(damaged)
