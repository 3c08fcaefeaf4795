"""Building modules from open_clip's model configurations, without network and without trained weights."""

import json
import re
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel

from math_hash.encoders.clip_towers import ClipImageTower, ClipTextTower
from math_hash.encoders.open_clip_towers import (
    HuggingFaceTextTower,
    ResNetImageTower,
    TimmImageTower,
    TransformerImageTower,
    TransformerTextTower,
    published_size,
)
from math_hash.encoders.tokenizers import BytePairTokenizer, Tokenizer
from math_hash.encoders.towers import ImageTower, TextTower
from math_hash.errors import InputError, import_extra, one_line

OpenClip: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
_UNUSABLE = "this open_clip model cannot be used: {}; use one such as ViT-B-32-quickgelu"


def check_architecture(architecture: Mapping[str, Any]) -> None:
    """Refuse configurations that no tower here can run, or that would have to be downloaded.

    Raises:
        InputError: `architecture` is not a usable configuration of open_clip.
    """
    vision, text = architecture.get("vision_cfg"), architecture.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict) or "embed_dim" not in architecture:
        raise InputError(_UNUSABLE.format("its configuration lacks embed_dim, vision_cfg or text_cfg"))
    timm_name = vision.get("timm_model_name") or ""
    reason = None
    if not re.fullmatch(r"[\w.]*", timm_name):
        reason = f"timm_model_name {timm_name!r} is not the name of one of timm's own models"
    elif timm_name and vision.get("timm_pool") in ("abs_attn", "rot_attn"):
        reason = f"timm_pool {vision['timm_pool']!r} gives no features of single places"
    elif isinstance(patch := vision.get("patch_size"), int) and vision.get("image_size", patch) < patch:
        reason = f"`resolution` {vision['image_size']} is less than the side of one patch, {patch}"
    elif not timm_name and vision.get("attentional_pool") not in (None, False, True):
        reason = f"attentional_pool {vision['attentional_pool']!r} is unknown"
    elif not timm_name and vision.get("pool_type", "tok") not in ("tok", "avg"):
        reason = f"its image tower is pooled by {vision['pool_type']!r}"
    elif text.get("pool_type", "argmax") not in ("argmax", "eos", "first", "last"):
        reason = f"its text tower is pooled by {text['pool_type']!r}"
    if reason:
        raise InputError(_UNUSABLE.format(reason))


def is_clips_own(architecture: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of CLIP's own two towers, such as those of OpenAI's weights."""
    vision, text = architecture["vision_cfg"], architecture["text_cfg"]
    return (
        isinstance(vision.get("layers"), int)
        and not (vision.get("timm_model_name") or vision.get("attentional_pool"))
        and not text.keys() & {"hf_model_name", "hf_tokenizer_name", "embed_cls"}
        and text.get("pool_type", "argmax") == "argmax"
        and text.get("proj_type", "linear") == "linear"
    )


def build_clip(architecture: Mapping[str, Any], text_config: Mapping[str, Any] | None = None) -> OpenClip:
    """Build open_clip's model of a configuration, at its resolution, with random weights; CoCa without the decoder.

    Args:
        architecture: open_clip's model configuration: `embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`, ...
        text_config: of a text tower of Hugging Face's transformers, the content of its `config.json`.

    Raises:
        InputError: the configuration cannot be used.
    """
    check_architecture(architecture)
    config = deepcopy(dict(architecture))
    config.pop("multimodal_cfg", None)
    vision, text = config["vision_cfg"], config["text_cfg"]
    custom_text = config.pop("custom_text", False) or text.get("embed_cls") or text.get("hf_model_name")
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            if name := text.get("hf_model_name"):
                import_extra("transformers", "transformers", f"the text tower {name}")
                if text_config is None:
                    raise InputError(f"the text tower {name}: its config.json is missing")
                data_only = {key: value for key, value in text_config.items() if key != "auto_map"}  # that is code
                (Path(folder) / "config.json").write_text(json.dumps(data_only))
                text |= {"hf_model_name": folder, "hf_model_pretrained": False}
            clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(_UNUSABLE.format(one_line(error))) from error
    if isinstance(clip.visual, TimmModel) and clip.visual.image_size[0] != published_size(clip.visual):
        clip.visual.set_input_size(clip.visual.image_size[0])
    return clip


def image_tower(clip: OpenClip) -> ImageTower:
    """The class that runs the image tower of an open_clip model."""
    visual = clip.visual
    if isinstance(visual, TimmModel):
        return TimmImageTower(visual)
    if isinstance(visual, ModifiedResNet):
        return ResNetImageTower(visual)
    return ClipImageTower(visual) if ClipImageTower.runs(visual) else TransformerImageTower(visual)


def text_tower(clip: OpenClip, tokenizer: Tokenizer) -> TextTower:
    """The class that runs the text tower of an open_clip model, which is a separate module in some of its classes."""
    text = getattr(clip, "text", clip)
    if isinstance(text, HFTextEncoder):
        return HuggingFaceTextTower(text)
    pooling = getattr(text, "pool_type", None) or clip.text_pool_type
    at_end = "argmax" if isinstance(tokenizer, BytePairTokenizer) else "eos"  # where `Tokenizer.lengths` ends
    if pooling == at_end and ClipTextTower.runs(text):
        return ClipTextTower(text)
    return TransformerTextTower(clip, tokenizer)
