"""From the names that a user gives to an encoder with weights: the only place that knows names, files and downloads."""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from math_hash.encoders.clip import ClipEncoder
from math_hash.encoders.state_dict import read_state_dict
from math_hash.errors import InputError

# what OpenAI's archives carry beside the weights
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def open_encoder(
    clip_path: str, encoder: str | None = None, weights: str | None = None, resolution: int = 224
) -> ClipEncoder:
    """Open a CLIP by file or by name.

    Args:
        clip_path: weights in OpenAI's names; read when `encoder` is None.
        encoder: an open_clip model name, or "demo", the small one that ships with this package.
        weights: an open_clip tag, a weight file, or "none" for random weights. Only with `encoder`.
        resolution: side of the input; the position embeddings are interpolated where it differs from the weights'.

    Raises:
        InputError: nothing at `clip_path`, an unknown name, a failed download, or weights of another architecture.
    """
    if encoder is None:
        if not Path(clip_path).is_file():
            raise InputError(
                f"{clip_path}: no CLIP weights there; download OpenAI's ViT-B-32.pt to that place (cache/README.md "
                "has the address), or name a model: --encoder ViT-B-32-quickgelu --encoder-weights openai"
            )
        return encoder_from_openai(read_state_dict(clip_path), resolution, clip_path)

    architecture = named_architecture(encoder, resolution)
    if weights == "none":
        return ClipEncoder(architecture)
    if weights and os.path.isfile(weights):
        model = ClipEncoder(architecture)
        load_clip(model, read_state_dict(weights), weights)
        return model
    tags = open_clip.list_pretrained_tags_by_model(encoder)
    if weights not in tags:
        raise InputError(
            f"--encoder-weights {weights}: neither a file nor a tag of {encoder}; its tags are "
            f"{', '.join(tags) or 'none'}; 'none' starts from scratch"
        )
    ClipEncoder(architecture)  # refuse what cannot be used before anything is downloaded
    try:
        downloaded = open_clip.create_model(encoder, pretrained=weights, force_image_size=resolution)
    except Exception as error:  # hub, network and file errors of many kinds
        reason = str(error).split("\n")[0]
        raise InputError(
            f"--encoder-weights {weights}: cannot be downloaded ({reason}); get the file elsewhere and give its path"
        ) from error
    preprocessing = downloaded.visual.preprocess_cfg
    model = ClipEncoder(architecture, preprocessing["mean"], preprocessing["std"])
    model.clip.load_state_dict(downloaded.state_dict())
    return model


def encoder_from_openai(state: dict[str, Tensor], resolution: int | None, source: str | Path) -> ClipEncoder:
    """Build the CLIP whose weights, in OpenAI's names, are given; its architecture is read off their shapes.

    Args:
        resolution: side of the input; None for the one that the weights were trained at.
        source: where the weights come from, for messages.

    Raises:
        InputError: the names or shapes are not those of a CLIP with a vision transformer.
    """
    architecture = _architecture_of(state, source)
    if resolution:
        architecture["vision_cfg"]["image_size"] = resolution
    model = ClipEncoder(architecture)
    load_clip(model, state, source)
    return model


def load_clip(model: ClipEncoder, state: dict[str, Tensor], source: str | Path) -> None:
    """Load weights into a CLIP, interpolating the image position embeddings to the model's resolution.

    Raises:
        InputError: names or shapes do not fit.
    """
    state = {name: tensor.float() for name, tensor in state.items() if not name.endswith(_NOT_WEIGHTS)}
    if hasattr(model.clip, "text") and "positional_embedding" in state:
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    try:
        open_clip.model.resize_pos_embed(state, model.clip)
        model.clip.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{source}: these weights do not fit the encoder ({reason})") from error


def named_architecture(name: str, resolution: int) -> dict[str, Any]:
    """The configuration of an open_clip model, or of "demo", for an input of `resolution` pixels.

    Raises:
        InputError: no model has that name.
    """
    if name == "demo":
        architecture = json.loads((files("math_hash") / "encoders" / "demo.json").read_text())
    else:
        architecture = open_clip.get_model_config(name) if "/" not in name and ":" not in name else None
    if architecture is None:
        raise InputError(
            f"--encoder {name}: not an open_clip model; names are such as ViT-B-32-quickgelu, ViT-B-16, ViT-L-14 "
            "(open_clip.list_models() has all), or demo"
        )
    architecture["vision_cfg"]["image_size"] = resolution
    return architecture


def _architecture_of(state: dict[str, Tensor], source: str | Path) -> dict[str, Any]:
    try:
        patches, text_blocks = state["visual.conv1.weight"], _count(state, "transformer.resblocks.")
        vision_width, patch_size = patches.shape[0], patches.shape[-1]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        text_width = state["ln_final.weight"].shape[0]
        return {
            "embed_dim": state["text_projection"].shape[1],
            "quick_gelu": True,  # OpenAI's weights were trained with it
            "vision_cfg": {
                "image_size": grid * patch_size,
                "layers": _count(state, "visual.transformer.resblocks."),
                "width": vision_width,
                "head_width": 64,
                "patch_size": patch_size,
            },
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": text_width,
                "heads": text_width // 64,
                "layers": text_blocks,
            },
        }
    except (KeyError, IndexError) as error:
        raise InputError(
            f"{source}: not a CLIP with a vision transformer: {error} is missing; expected OpenAI's names"
        ) from error


def _count(state: dict[str, Tensor], prefix: str) -> int:
    depth = prefix.count(".")
    return len({name.split(".")[depth] for name in state if name.startswith(prefix)})
