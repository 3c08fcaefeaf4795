"""Released MATH checkpoints: a `state_dict` with OpenAI's CLIP names under `clip.` and the heads' under `hash.`."""

import re
from pathlib import Path

import torch
from torch import Tensor

from math_hash.encoders import encoder_from_openai
from math_hash.encoders.state_dict import read_state_dict
from math_hash.errors import InputError
from math_hash.models.model import HashModel

# the releases were trained with 32 tokens per text
_MAX_WORDS = 32
_STREAMS = {"i": "image", "t": "text", "l": "label"}
_RENAMED = (
    (r"gcl_i\.mlp\.mlps\.(\d+)\.0\.(.*)", r"global_head.blocks.\1.1.\2"),
    (r"gcl_i\.mlp\.mlps\.(\d+)\.3\.(.*)", r"global_head.blocks.\1.4.\2"),
    (r"gcl_i\.mlp\.lns\.(\d+)\.(.*)", r"global_head.blocks.\1.0.\2"),
    (r"gcl_i\.common_concept_embedding\.weight", r"global_head.projection.weight"),
)


def read_released(path: str | Path) -> HashModel:
    """Read a released MATH checkpoint, on the CPU, in evaluation mode; it gives the released codes.

    The checkpoint holds no configuration: widths, layers, bits and the image size are inferred from the shapes, padding
    is not masked, texts have 32 tokens. The three `gcl_*` are one module saved three times; one copy is read.

    Raises:
        InputError: the file is damaged or is not a MATH checkpoint.
    """
    state = read_state_dict(path)
    clip = {name.removeprefix("clip."): value for name, value in state.items() if name.startswith("clip.")}
    heads = {name.removeprefix("hash."): value.float() for name, value in state.items() if name.startswith("hash.")}
    missing = {"gcl_i.common_concept_embedding.weight", "lct_i.hashing.fc_list.0.weight"} - heads.keys()
    if missing or not clip:
        raise InputError(
            f"{path}: not a released MATH checkpoint; expected names under 'clip.' and 'hash.', "
            f"missing are {', '.join(sorted(missing)) or 'clip.*'}"
        )
    k_bits = len(heads["gcl_i.common_concept_embedding.weight"])
    options = {
        "res_mlp_layers": _layers(heads, r"gcl_i\.mlp\.lns\.(\d+)\."),
        "transformer_layers": _layers(heads, r"lct_i\.transformer\.resblocks\.(\d+)\."),
        "mask_padding": False,
    }
    encoder = encoder_from_openai(clip, None, path)
    model = HashModel(encoder, "MATH", k_bits, options, min(_MAX_WORDS, encoder.context_length))
    try:
        model.head.load_state_dict(_own_names(heads, k_bits))
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: the heads' weights do not fit MATH ({reason})") from error
    return model.eval()


def _own_names(heads: dict[str, Tensor], k_bits: int) -> dict[str, Tensor]:
    state = {}
    for name, value in heads.items():
        for pattern, replacement in _RENAMED:
            if re.fullmatch(pattern, name):
                state[re.sub(pattern, replacement, name)] = value
    for letter, stream in _STREAMS.items():
        prefix = f"lct_{letter}.transformer."
        for name, value in heads.items():
            if name.startswith(prefix):
                state[f"local_heads.{stream}.transformer.{name.removeprefix(prefix)}"] = value
        bits = [f"lct_{letter}.hashing.fc_list.{bit}" for bit in range(k_bits)]
        state[f"local_heads.{stream}.projection.weight"] = torch.cat([heads[f"{bit}.weight"] for bit in bits])
        state[f"local_heads.{stream}.projection.bias"] = torch.cat([heads[f"{bit}.bias"] for bit in bits])
    return state


def _layers(heads: dict[str, Tensor], pattern: str) -> int:
    matches = (re.match(pattern, name) for name in heads)
    return len({match.group(1) for match in matches if match})
