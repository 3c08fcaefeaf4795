"""Tokenizers: from texts to the token ids that a text tower reads."""

import json
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
from torch import Tensor, nn

from math_hash.data import token_ids
from math_hash.encoders.hugging_face import asking_the_hub, first_sentence
from math_hash.errors import InputError, import_extra, one_line
from math_hash.plain_data import parse_json

# the files of a Hugging Face tokenizer that rebuild it; none of them is code
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_LONGEST_TEXT = 10_000  # characters that are tokenized; encoders read the first tens or hundreds of tokens
_LONGEST_WORD = 500  # of its characters; the time that byte pairs take grows with the square of this
_LONG_WORD = re.compile(rf"(\S{{{_LONGEST_WORD}}})\S+")
_LARGEST = 2**29  # bytes of these files together


class Tokenizer(token_ids.Tokenizer, Protocol):
    """An encoder's tokenizer: besides its call and the lengths of texts, it has these attributes.

    pad_id: the token id of padding.
    is_clips: whether it is CLIP's own, which needs no files.
    """

    @property
    def pad_id(self) -> int: ...

    @property
    def is_clips(self) -> bool: ...


def _cut(texts: Sequence[str]) -> list[str]:
    """Texts without what no encoder reads: a million characters take gigabytes, and a word of ten thousand seconds."""
    return [_LONG_WORD.sub(r"\1", text[:_LONGEST_TEXT]) for text in texts]


class BytePairTokenizer:
    """CLIP's own: start marker, byte pairs, end marker, zeros. The end marker has the highest token id.

    Args:
        clean: how a text is cleaned first: "lower", "canonicalize" (also removes punctuation) or "whitespace".

    >>> BytePairTokenizer()(["two dogs"], 6).tolist()
    [[49406, 1237, 3255, 49407, 0, 0]]
    """

    pad_id = 0

    def __init__(self, clean: str = "lower"):
        self.is_clips = clean == "lower"
        self._encode = open_clip.tokenize if self.is_clips else open_clip.SimpleTokenizer(clean=clean)

    def __call__(self, texts: Sequence[str], max_words: int) -> Tensor:
        """See `Tokenizer`."""
        return self._encode(_cut(texts), context_length=max_words)

    def lengths(self, token_ids: Tensor) -> Tensor:
        """See `Tokenizer`."""
        return token_ids.argmax(dim=1) + 1


class HuggingFaceTokenizer(nn.Module):
    """A tokenizer of a model on the Hugging Face hub, as open_clip applies it.

    Its files are part of the encoder's `state_dict`, as one tensor, so that a saved model needs no network.

    Args:
        name: of the repository on the hub that has it.
        clean: how a text is cleaned first: "lower", "canonicalize" or "whitespace".
        strip_sep_token: write padding in place of the end marker.
    """

    is_clips = False

    def __init__(self, name: str, clean: str = "whitespace", strip_sep_token: bool = False):
        super().__init__()
        self.name, self.clean, self.strip_sep_token = name, clean, strip_sep_token
        self._packed = torch.empty(0, dtype=torch.uint8)
        self._tokenizer: open_clip.tokenizer.HFTokenizer | None = None

    def fetch(self, source: str | Path) -> None:
        """Read the tokenizer from a folder, the hub or its cache.

        Raises:
            InputError: it is missing or cannot be read.
        """
        import_extra("transformers", "transformers", f"the tokenizer {self.name}")
        try:
            with asking_the_hub(source):
                tokenizer = self._open(source)
            with tempfile.TemporaryDirectory() as folder:
                tokenizer.save_pretrained(folder)
                files = {name: (Path(folder) / name).read_text() for name in _FILES if (Path(folder) / name).is_file()}
        except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"the tokenizer {source} cannot be read ({first_sentence(error)}); without network, download "
                f"https://huggingface.co/{self.name} elsewhere and give the folder as `encoder`"
            ) from error
        if _FILES[0] not in files:
            raise InputError(f"the tokenizer {source} has no {_FILES[0]}; its model cannot be used")
        packed = zlib.compress(json.dumps(files, sort_keys=True).encode())
        self._packed = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        self._tokenizer = tokenizer

    def get_extra_state(self) -> Tensor:
        """The files, packed, uint8."""
        return self._packed

    def set_extra_state(self, state: Tensor) -> None:
        """Open the packed files.

        Raises:
            InputError: they are damaged.
        """
        self._packed, self._tokenizer = state.detach().cpu().contiguous(), None
        if len(state) and find_spec("transformers"):  # pictures are encoded without it
            self._tokenizer = self._unpack()

    @property
    def pad_id(self) -> int:
        """See `Tokenizer`."""
        return self._opened.tokenizer.pad_token_id

    def forward(self, texts: Sequence[str], max_words: int) -> Tensor:
        """See `Tokenizer`."""
        return self._opened(_cut(texts), context_length=max_words)

    def lengths(self, token_ids: Tensor) -> Tensor:
        """See `Tokenizer`."""
        places = torch.arange(1, token_ids.shape[1] + 1, device=token_ids.device)
        last = ((token_ids != self.pad_id) * places).amax(dim=1)
        if (
            self.strip_sep_token or self._opened.tokenizer.eos_token_id == self.pad_id
        ):  # the end marker looks like padding
            last = last + 1
        return last.clamp(1, token_ids.shape[1])

    @property
    def _opened(self) -> "open_clip.tokenizer.HFTokenizer":
        if not len(self._packed):
            raise InputError(f"the tokenizer {self.name} was not saved with this model; save the model again")
        if self._tokenizer is None:
            import_extra("transformers", "transformers", f"the tokenizer {self.name}")
            self._tokenizer = self._unpack()
        return self._tokenizer

    def _unpack(self) -> "open_clip.tokenizer.HFTokenizer":
        try:
            with tempfile.TemporaryDirectory() as folder:
                for name, text in _unpacked(self._packed.numpy().tobytes()).items():
                    (Path(folder) / name).write_text(text)
                return self._open(folder)
        except (OSError, ValueError, zlib.error, ImportError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the model's tokenizer is damaged or of another version ({one_line(error)})") from error

    def _open(self, source: str | Path) -> "open_clip.tokenizer.HFTokenizer":
        # trust_remote_code: where a repository says that its tokenizer is a program, it is refused
        return open_clip.tokenizer.HFTokenizer(
            str(source), clean=self.clean, strip_sep_token=self.strip_sep_token, trust_remote_code=False
        )


def _unpacked(packed: bytes) -> dict[str, str]:
    unpacking = zlib.decompressobj()
    content = parse_json(unpacking.decompress(packed, _LARGEST))
    if not unpacking.eof or not isinstance(content, dict):
        raise ValueError("its files are cut off or too large")
    return {name: content[name] for name in _FILES if isinstance(content.get(name), str)}


def tokenizer_of(text_config: Mapping[str, Any]) -> BytePairTokenizer | HuggingFaceTokenizer:
    """The tokenizer of a text tower, given its part of open_clip's configuration; one from the hub is still empty.

    Raises:
        InputError: it has unknown options.
    """
    name, options = text_config.get("hf_tokenizer_name"), dict(text_config.get("tokenizer_kwargs") or {})
    known = {"clean", "strip_sep_token"} if name else {"clean"}
    if unknown := options.keys() - known:
        raise InputError(f"this open_clip model cannot be used: its tokenizer has the option {min(unknown)!r}")
    if options.get("clean", "lower") not in ("lower", "canonicalize", "whitespace"):
        raise InputError(f"this open_clip model cannot be used: its tokenizer has clean={options['clean']!r}")
    if text_config.get("tokenizer_mode"):
        raise InputError(f"this open_clip model cannot be used: tokenizer_mode {text_config['tokenizer_mode']!r}")
    return HuggingFaceTokenizer(name, **options) if name else BytePairTokenizer(**options)
