"""Token ids of a dataset's texts, computed when they are first read."""

import mmap
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Tokenizer(Protocol):
    """From texts to token ids."""

    def __call__(self, texts: Sequence[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words), markers included, padded at the end; longer texts are cut."""

    def lengths(self, token_ids: Tensor) -> Tensor:
        """How many tokens each text has, int64 (n,), markers included, given token ids, int64 (n, length)."""


class TokenIds:
    """The token ids of n texts, each tokenized when it is first read.

    They are kept in memory that processes share, so that what one data loader worker tokenized, neither the others nor
    those of later epochs tokenize again.

    Args:
        texts: n texts.
        tokenizer: of the texts.
        max_words: number of token ids of each text.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, max_words: int):
        self._texts, self._tokenizer, self._max_words = texts, tokenizer, max_words
        self._ids = _shared((len(texts), max_words), np.int32)
        self._done = _shared((len(texts),), np.uint8)

    def __getitem__(self, row: int) -> Tensor:
        """Token ids of one text, int64 (max_words,)."""
        return self.of_rows([row])[0]

    def of_rows(self, rows: Sequence[int]) -> Tensor:
        """Token ids of m texts, int64 (m, max_words)."""
        missing = [row for row in rows if not self._done[row]]
        if missing:
            self._ids[missing] = np.asarray(self._tokenizer([self._texts[row] for row in missing], self._max_words))
            self._done[missing] = 1  # only now: another process may be reading
        return torch.from_numpy(self._ids[list(rows)].astype(np.int64))

    def __reduce__(self) -> tuple[type["TokenIds"], tuple[Sequence[str], Tokenizer, int]]:
        return TokenIds, (self._texts, self._tokenizer, self._max_words)  # processes that are not forked start anew


def _shared(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros in memory that forked processes share; what is not written takes no space."""
    count = int(np.prod(shape))
    memory = mmap.mmap(-1, max(count * np.dtype(dtype).itemsize, 1))
    return np.frombuffer(memory, dtype, count).reshape(shape)
