"""Tokenizers of encoders: lengths of texts, and files that travel with the weights."""

import json
import random
import string
import time
import zlib

import pytest
import torch
from encoders.tiny_architectures import tiny_encoder, write_tokenizer

from math_hash import InputError
from math_hash.encoders.tokenizers import BytePairTokenizer, HuggingFaceTokenizer, tokenizer_of

TEXTS = ["two dogs", "", "a sky " * 20]


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        ("SigLIP", [3, 1, 8]),  # no start marker; the end marker pads too
        ("SigLIP 2", [3, 1, 8]),
        ("CLIPA", [4, 2, 8]),  # the end marker is written as padding
        ("worldwide", [4, 2, 8]),
        ("XLM-RoBERTa", [4, 2, 8]),
        ("mT5", [4, 2, 8]),
        ("ConvNeXt", [4, 2, 8]),
    ],
)
def test_a_text_ends_with_its_end_marker_and_content_is_what_stands_before(kind, lengths, tmp_path):
    encoder = tiny_encoder(kind, tmp_path)
    ids = encoder.tokenize(TEXTS, 8)
    assert ids.shape == (3, 8)
    assert encoder.text_lengths(ids).tolist() == lengths
    features = encoder.encode_text(ids)
    assert (~features.padding).sum(dim=1).tolist() == lengths
    assert features.content_mask().sum(dim=1).tolist() == [max(length - 1, 1) for length in lengths]
    padded = torch.cat([ids, torch.full((3, 4), encoder.tokenizer.pad_id)], dim=1)
    if kind not in ("SigLIP", "CLIPA"):  # there, what follows a text that was cut looks like its end marker
        assert encoder.text_lengths(padded).tolist() == lengths


@pytest.fixture
def tokenizer(tmp_path):
    pytest.importorskip("transformers")
    write_tokenizer(tmp_path / "files")
    tokenizer = HuggingFaceTokenizer("someone/some-model")
    tokenizer.fetch(tmp_path / "files")
    return tokenizer


def test_its_files_are_one_tensor_of_the_state(tokenizer):
    (packed,) = tokenizer.state_dict().values()
    assert packed.dtype == torch.uint8
    files = json.loads(zlib.decompress(packed.numpy().tobytes()))
    assert "tokenizer.json" in files
    other = HuggingFaceTokenizer("someone/some-model")
    other.load_state_dict(tokenizer.state_dict())
    assert torch.equal(other(TEXTS, 8), tokenizer(TEXTS, 8))
    assert torch.equal(next(iter(other.state_dict().values())), packed)


def test_without_its_files_it_says_so(tokenizer):
    empty = HuggingFaceTokenizer("someone/some-model")
    with pytest.raises(InputError, match=r"someone/some-model was not saved with this model"):
        empty(TEXTS, 8)
    empty.load_state_dict(HuggingFaceTokenizer("someone/some-model").state_dict())
    with pytest.raises(InputError, match="was not saved"):
        empty.lengths(torch.zeros(1, 8, dtype=torch.int64))


@pytest.mark.parametrize("content", [b"nonsense", zlib.compress(b"[1]"), zlib.compress(b"{}"), zlib.compress(b"{")])
def test_damaged_files_are_one_clear_line(tokenizer, content):
    damaged = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with pytest.raises(InputError, match="damaged or of another version"):
        tokenizer.set_extra_state(damaged)


def test_files_that_unpack_to_very_much_are_refused(tokenizer, monkeypatch):
    monkeypatch.setattr("math_hash.encoders.tokenizers._LARGEST", 1000)
    with pytest.raises(InputError, match="damaged or of another version"):
        tokenizer.set_extra_state(tokenizer.get_extra_state())


def test_a_repository_whose_tokenizer_is_a_program_is_refused(tmp_path):
    pytest.importorskip("transformers")
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    code = {"auto_map": {"AutoTokenizer": [None, "attack.Attack"]}, "tokenizer_class": "Attack"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **code}))
    (tmp_path / "attack.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(InputError, match="cannot be read"):
        HuggingFaceTokenizer("someone/some-model").fetch(tmp_path)


@pytest.mark.parametrize(
    "text_config",
    [
        {"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"trust_remote_code": True}},
        {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}},
        {"tokenizer_kwargs": {"clean": "nonsense"}},
        {"hf_tokenizer_name": "a/b", "tokenizer_mode": "clips"},
    ],
)
def test_other_options_are_refused(text_config):
    with pytest.raises(InputError, match="cannot be used"):
        tokenizer_of(text_config)


def test_clips_own_tokenizer_may_clean_texts_otherwise():
    plain, canonical = BytePairTokenizer(), tokenizer_of({"tokenizer_kwargs": {"clean": "canonicalize"}})
    assert plain.is_clips
    assert not canonical.is_clips
    assert torch.equal(canonical(["Two dogs!"], 8), plain(["two dogs"], 8))
    assert not torch.equal(plain(["Two dogs!"], 8), plain(["two dogs"], 8))


def test_a_word_of_ten_thousand_letters_takes_no_time():
    """Byte pairs take the square of a word's length: it took seconds, in which a server answered nobody."""
    letters = random.Random(0)
    word = "".join(letters.choices(string.ascii_lowercase, k=10_000))
    tokenizer, start = BytePairTokenizer(), time.process_time()
    ids = tokenizer([word, word[:500], f"a {word}", "漢" * 600, "漢" * 500], 77)
    assert time.process_time() - start < 1.5
    assert torch.equal(ids[0], ids[1])
    assert torch.equal(ids[3], ids[4])
