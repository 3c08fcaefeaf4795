"""Opening encoders by name or file: the only module that knows model names, weight files and downloads."""

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from torch import Tensor

from math_hash.encoders.architecture import check_architecture, is_clips_own
from math_hash.encoders.clip import ClipEncoder
from math_hash.encoders.hugging_face import asking_the_hub, fetch_text_config, first_sentence
from math_hash.encoders.state_dict import read_state_dict
from math_hash.encoders.tokenizers import HuggingFaceTokenizer
from math_hash.errors import InputError
from math_hash.files import read_json

OPENAI_CLIP = (  # ViT-B/32; the folder is the file's SHA-256 sum
    "https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
)
_CONFIG = "open_clip_config.json"
# entries besides the weights in OpenAI's archives, and in older files of transformers' towers
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "embeddings.position_ids")
_DECODER = "text_decoder."  # of CoCa, which writes captions


def open_encoder(
    clip_path: str, encoder: str | None = None, weights: str | None = None, resolution: int = 224
) -> ClipEncoder:
    """Open an encoder by file or by name.

    Args:
        clip_path: weights in OpenAI's names; read when `encoder` is None.
        encoder: an open_clip model name; a folder as open_clip's models have it on the Hugging Face hub, with
            `open_clip_config.json` and the tokenizer's files; or "demo", the small one that ships with this package.
        weights: an open_clip tag, a weight file, or "none" for random weights. Only with `encoder`.
        resolution: side of the input; the position embeddings are interpolated if it differs from the weights'.

    Raises:
        InputError: no file at `clip_path`, an unknown name, a failed download, or weights of another architecture.
    """
    if encoder is None:
        if not Path(clip_path).is_file():
            raise InputError(
                f"{clip_path}: no CLIP weights there; download {OPENAI_CLIP} to this path, or name a model: "
                "`encoder` ViT-B-32-quickgelu with `encoder_weights` openai"
            )
        return encoder_from_openai(read_state_dict(clip_path), resolution, clip_path)

    architecture = named_architecture(encoder, resolution)
    check_architecture(architecture)
    is_file = weights is not None and os.path.isfile(weights)
    if is_file or weights == "none":
        model = _new_encoder(encoder, architecture, _published_preprocessing(encoder, architecture))
        if weights and is_file:
            load_clip(model, read_state_dict(weights), weights)
        return model
    tags = open_clip.list_pretrained_tags_by_model(encoder)
    if weights not in tags:
        raise InputError(
            f"`encoder_weights` {weights}: neither a file nor a tag of {encoder}; its tags are "
            f"{', '.join(tags) or 'none'}; 'none' starts from scratch"
        )
    try:
        with asking_the_hub(encoder):
            downloaded = open_clip.create_model(encoder, pretrained=weights, force_image_size=resolution)
    except Exception as error:  # hub, network and file errors of many kinds
        raise InputError(
            f"`encoder_weights` {weights}: cannot be downloaded ({first_sentence(error)}); get the file elsewhere and "
            "give its path"
        ) from error
    model = _new_encoder(encoder, architecture, downloaded.visual.preprocess_cfg)
    state = downloaded.state_dict()
    model.clip.load_state_dict({name: value for name, value in state.items() if not name.startswith(_DECODER)})
    return model


def _new_encoder(name: str, architecture: dict[str, Any], preprocessing: Mapping[str, Any]) -> ClipEncoder:
    """An encoder with random weights; its tokenizer and its text tower's configuration may come from the hub."""
    folder = Path(name) if _has_config(name) else None
    known = ("mean", "std") if is_clips_own(architecture) else ("mean", "std", "interpolation", "resize_mode")
    transform = {key: preprocessing[key] for key in known if preprocessing.get(key) is not None}
    text_name = architecture["text_cfg"].get("hf_model_name")
    text_config = fetch_text_config(text_name, folder) if text_name else None
    model = ClipEncoder(architecture, **transform, text_config=text_config)
    if isinstance(model.tokenizer, HuggingFaceTokenizer):
        model.tokenizer.fetch(folder or model.tokenizer.name)
    return model


def _published_preprocessing(name: str, architecture: dict[str, Any]) -> Mapping[str, Any]:
    """The preprocessing that a model's published weights expect; for CLIP's own towers, that of OpenAI's weights."""
    if _has_config(name):
        return read_json(Path(name) / _CONFIG).get("preprocess_cfg", {})
    tags = [] if is_clips_own(architecture) else open_clip.list_pretrained_tags_by_model(name)
    return open_clip.get_pretrained_cfg(name, tags[0]) if tags else {}


def encoder_from_openai(state: dict[str, Tensor], resolution: int | None, source: str | Path) -> ClipEncoder:
    """Build the CLIP with the given weights, in OpenAI's names; its architecture is inferred from their shapes.

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
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_DECODER)}
    try:
        state = convert_state_dict(model.clip, state)
        if hasattr(model.clip, "text") and "positional_embedding" in state:
            state = open_clip.model.convert_to_custom_text_state_dict(state)
        open_clip.model.resize_pos_embed(state, model.clip)
        with model.image_tower.at_published_size():
            model.clip.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{source}: these weights do not fit the encoder ({reason})") from error


def named_architecture(name: str, resolution: int) -> dict[str, Any]:
    """The configuration of an open_clip model, or of "demo", for an input of `resolution` pixels.

    Raises:
        InputError: no model has that name.
    """
    if name == "demo":
        architecture = json.loads((files("math_hash") / "encoders" / "demo.json").read_text())
    elif _has_config(name):
        content = read_json(Path(name) / _CONFIG)
        architecture = content.get("model_cfg", content)
        check_architecture(architecture)
    else:
        architecture = open_clip.get_model_config(name) if "/" not in name and ":" not in name else None
    if architecture is None:
        raise InputError(
            f"`encoder` {name}: not an open_clip model; expected a name such as ViT-B-32-quickgelu, ViT-B-16, ViT-L-14 "
            f"(open_clip.list_models() lists all), demo, or a folder with {_CONFIG}"
        )
    architecture["vision_cfg"]["image_size"] = resolution
    return architecture


def _has_config(name: str) -> bool:
    return (Path(name) / _CONFIG).is_file()


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
