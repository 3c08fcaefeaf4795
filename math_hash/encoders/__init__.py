"""Encoders: they turn pictures and texts into `Features`, the input of every hash head."""

from math_hash.encoders.clip import ClipEncoder
from math_hash.encoders.encoder import Encoder, ParameterGroups
from math_hash.encoders.features import Features
from math_hash.encoders.precomputed import PrecomputedEncoder
from math_hash.encoders.spec import build_encoder
from math_hash.encoders.tokenizers import Tokenizer
from math_hash.encoders.weights import encoder_from_openai, named_architecture, open_encoder

__all__ = [
    "ClipEncoder",
    "Encoder",
    "Features",
    "ParameterGroups",
    "PrecomputedEncoder",
    "Tokenizer",
    "build_encoder",
    "encoder_from_openai",
    "named_architecture",
    "open_encoder",
]
