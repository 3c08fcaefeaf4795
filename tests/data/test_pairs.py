"""Rows as the data loader reads them: texts are tokenized when they are first read, and only once."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from math_hash.data import DatasetFolder, ImageTransform, Needs, PairDataset, load_batches
from math_hash.data.token_ids import TokenIds

ROWS, WORDS = 30, 6


class Tokenizer:
    """The lengths of a text's words, 1 at its end, 0 after; every text that it tokenizes is logged in a file."""

    def __init__(self, log: Path):
        self.log = log

    def __call__(self, texts, max_words):
        with self.log.open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        ids = torch.zeros(len(texts), max_words, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = [len(word) for word in text.split()] + [1]
            ids[row, : len(words)] = torch.tensor(words)
        return ids

    def lengths(self, token_ids):
        return (token_ids > 0).sum(dim=1)

    @property
    def texts(self):
        return sorted(self.log.read_text().splitlines()) if self.log.exists() else []


@pytest.fixture
def tokenizer(tmp_path):
    return Tokenizer(tmp_path / "log.txt")


def captions():
    return [" ".join(["word"] * (row % 3 + 1)) + str(row) for row in range(ROWS)]


def pairs(tokenizer, **needs):
    labels = np.zeros((ROWS, 2), np.uint8)
    names = [f"label{row}" for row in range(ROWS)]
    folder = DatasetFolder(Path(), [""] * ROWS, captions(), labels, names, Path())
    transform = ImageTransform(8, (0, 0, 0), (1, 1, 1))
    return PairDataset(folder, tokenizer, transform, WORDS, needs=Needs(**needs)).with_streams(("text",))


def batches(dataset, workers=0):
    return list(load_batches(dataset, np.arange(ROWS).reshape(3, 10), workers))


def test_nothing_is_tokenized_before_it_is_read(tokenizer):
    dataset = pairs(tokenizer)
    assert tokenizer.texts == []
    next(load_batches(dataset, [np.array([3, 5])]))
    assert tokenizer.texts == sorted(captions()[row] for row in (3, 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_each_text_is_tokenized_once_over_epochs_copies_and_workers(tokenizer, workers):
    dataset = pairs(tokenizer)
    first = batches(dataset, workers)
    again = batches(dataset.for_training(("text",)), workers)
    assert tokenizer.texts == sorted(captions())
    whole = Tokenizer(tokenizer.log.with_name("other.txt"))(captions(), WORDS)
    for number, (one, other) in enumerate(zip(first, again, strict=True)):
        assert torch.equal(one["text"], other["text"])
        assert torch.equal(one["text"], whole[10 * number : 10 * (number + 1), :4])
        assert one["text"].dtype == torch.int64


def test_the_tokenizer_says_where_texts_end(tokenizer):
    (batch,) = load_batches(pairs(tokenizer), [np.array([0, 3])])  # one word each, and the end
    assert batch["text"].shape == (2, 2)
    (batch,) = load_batches(pairs(tokenizer, padding=True), [np.array([0, 3])])
    assert batch["text"].shape == (2, WORDS)


def test_token_ids_are_shared_with_forked_processes_and_made_again_in_others(tokenizer):
    ids = TokenIds(captions(), tokenizer, WORDS)
    child = multiprocessing.get_context("fork").Process(target=ids.of_rows, args=([1, 2],))
    child.start()
    child.join()
    assert tokenizer.texts == sorted(captions()[1:3])
    assert ids[1].tolist()[:3] == [4, 5, 1]
    assert tokenizer.texts == sorted(captions()[1:3])
    assert torch.equal(pickle.loads(pickle.dumps(ids))[1], ids[1])
    assert tokenizer.texts == sorted([*captions()[1:3], captions()[1]])


def test_a_dataset_without_rows_has_no_token_ids(tokenizer):
    assert TokenIds([], tokenizer, WORDS).of_rows([]).shape == (0, WORDS)
