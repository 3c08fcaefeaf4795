"""Released checkpoints of MATH, MITH, DCHMT and DSPH: a `state_dict` with OpenAI's CLIP names under `clip.`.

The heads' names are under `hash.` (MATH, MITH), or under `image_hash.` and `text_hash.` (DCHMT, DSPH). Other methods of
the same collections, whose heads are DSPH's linear ones, have DSPH's names and open as it does, with the same codes.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
    (r"lct_i\.transformer\.(.*)", r"local_heads.image.transformer.\1"),
    (r"lct_t\.transformer\.(.*)", r"local_heads.text.transformer.\1"),
    (r"lct_l\.transformer\.(.*)", r"local_heads.label.transformer.\1"),
    (r"img_concept_proj\.(.*)", r"local_heads.image.contrast.\1"),
    (r"txt_concept_proj\.(.*)", r"local_heads.text.contrast.\1"),
)


class ReleasedHead(NamedTuple):
    """What a release's names say about its head: bits, options and facts of our class, and weights in our names."""

    method: str
    k_bits: int
    options: dict[str, Any]
    state: dict[str, Tensor]


def read_released(path: str | Path) -> HashModel:
    """Read a released checkpoint, on the CPU, in evaluation mode; it gives the released codes.

    The checkpoint holds no configuration: method, widths, layers, bits and the image size are inferred from names and
    shapes; texts have 32 tokens; MATH does not mask padding. The `gcl_*` are one module saved several times; one copy
    is read. DSPH's proxies are not saved, and not needed for codes.

    Raises:
        InputError: the file is damaged or is not such a checkpoint.
    """
    state = read_state_dict(path)
    clip = {name.removeprefix("clip."): value for name, value in state.items() if name.startswith("clip.")}
    heads = {name.removeprefix("hash."): value.float() for name, value in state.items() if not name.startswith("clip.")}
    reader = next((reader for mark, reader in _READERS.items() if mark in heads), None)
    if reader is None or not clip:
        raise InputError(
            f"{path}: not a released checkpoint of MATH, MITH, DCHMT or DSPH; expected names under 'clip.' and "
            f"{' or '.join(_READERS)}; it has {', '.join(sorted(state)[:3])}, ..."
        )
    encoder = encoder_from_openai(clip, None, path)
    try:
        head = reader(heads)
        words = min(_MAX_WORDS, encoder.context_length)
        model = HashModel(encoder, head.method, head.k_bits, head.options, words)
        wrong = model.head.load_state_dict(head.state, strict=False)
        missing = set(wrong.missing_keys) - {"proxies"}
        if missing or wrong.unexpected_keys:
            raise RuntimeError(f"missing {sorted(missing)}, unexpected {wrong.unexpected_keys}")
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: the heads' weights do not fit their method ({reason})") from error
    return model.eval()


def _transformer_head(heads: dict[str, Tensor]) -> ReleasedHead:
    """MATH with three streams, or MITH with two and the maps of its contrast."""
    method = "MATH" if "lct_l.hashing.fc_list.0.weight" in heads else "MITH"
    k_bits = len(heads["gcl_i.common_concept_embedding.weight"])
    options = {
        "res_mlp_layers": _count(heads, r"gcl_i\.mlp\.lns\.(\d+)\."),
        "transformer_layers": _count(heads, r"lct_i\.transformer\.resblocks\.(\d+)\."),
    }
    state = {}
    for name, value in heads.items():
        for pattern, replacement in _RENAMED:
            if re.fullmatch(pattern, name):
                state[re.sub(pattern, replacement, name)] = value
    weight, bias = ("projection.weight", "projection.bias") if method == "MATH" else ("weight", "bias")
    for letter, stream in _STREAMS.items():
        if method == "MATH" or stream != "label":
            bits = [f"lct_{letter}.hashing.fc_list.{bit}" for bit in range(k_bits)]
            state[f"local_heads.{stream}.{weight}"] = torch.cat([heads[f"{bit}.weight"] for bit in bits])
            state[f"local_heads.{stream}.{bias}"] = torch.cat([heads[f"{bit}.bias"] for bit in bits])
    return ReleasedHead(method, k_bits, options | ({"mask_padding": False} if method == "MATH" else {}), state)


def _choice_head(heads: dict[str, Tensor]) -> ReleasedHead:
    """DCHMT: a hidden layer and a linear map to two scores per bit."""
    k_bits = _count(heads, r"image_hash\.hash_list\.(\d+)\.")
    state = {}
    for stream in ("image", "text"):
        for kind in ("weight", "bias"):
            bits = [heads[f"{stream}_hash.hash_list.{bit}.{kind}"] for bit in range(k_bits)]
            state[f"heads.{stream}.layers.0.{kind}"] = heads[f"{stream}_hash.fc.{kind}"]
            state[f"heads.{stream}.layers.2.{kind}"] = torch.cat(bits)
    return ReleasedHead("DCHMT", k_bits, {"hidden": len(heads["image_hash.fc.bias"])}, state)


def _linear_head(heads: dict[str, Tensor]) -> ReleasedHead:
    """DSPH: one linear layer."""
    state = {
        f"heads.{stream}.0.{kind}": heads[f"{stream}_hash.fc.{kind}"]
        for stream in ("image", "text")
        for kind in ("weight", "bias")
    }
    return ReleasedHead("DSPH", len(heads["image_hash.fc.bias"]), {"num_labels": 1, "margin": 0.0}, state)


# a name that only this kind of head has, the more special ones first -> how it is read
_READERS: dict[str, Callable[[dict[str, Tensor]], ReleasedHead]] = {
    "lct_i.hashing.fc_list.0.weight": _transformer_head,
    "image_hash.hash_list.0.weight": _choice_head,
    "image_hash.fc.weight": _linear_head,
}


def _count(heads: dict[str, Tensor], pattern: str) -> int:
    matches = (re.match(pattern, name) for name in heads)
    return len({match.group(1) for match in matches if match})
