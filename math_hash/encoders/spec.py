"""Rebuilding an encoder from its description in a saved model."""

from collections.abc import Mapping
from typing import Any

from math_hash.encoders.clip import ClipEncoder
from math_hash.encoders.encoder import Encoder
from math_hash.encoders.precomputed import PrecomputedEncoder
from math_hash.errors import InputError, one_line

_KINDS: dict[str, type[Encoder]] = {"clip": ClipEncoder, "precomputed": PrecomputedEncoder}


def build_encoder(spec: Mapping[str, Any]) -> Encoder:
    """The encoder of an `Encoder.spec`, with random weights; nothing is downloaded, and no outside code is run.

    Raises:
        InputError: the kind is unknown, or something is missing, damaged or of another version.

    >>> build_encoder({"kind": "precomputed", "image_width": 8, "text_width": 6}).width
    8
    """
    options = dict(spec)
    kind = options.pop("kind", None)
    if kind not in _KINDS:
        raise InputError(f"the encoder's kind {kind!r} is unknown; expected one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**options)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise InputError(f"the encoder's description is damaged or of another version ({one_line(error)})") from error
