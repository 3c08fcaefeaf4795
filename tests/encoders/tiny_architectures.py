"""Small models of each kind that open_clip builds: their configurations, and local files of their text towers."""

import importlib
from copy import deepcopy
from functools import partial

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.fastvit import FastVit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from math_hash.encoders import ClipEncoder
from math_hash.encoders.hugging_face import fetch_text_config

WORDS = "two dogs on a beach and the red sky very much longer text".split()


def registered(build):
    """Known to timm by its name; this file may be imported under two names."""
    return build if timm.is_model(build.__name__) else timm.models.register_model(build)


def _named(model, size):
    model.pretrained_cfg = model.default_cfg = {"input_size": (3, size, size), "pool_size": None}
    return model


def _options(kwargs):
    return {name: value for name, value in kwargs.items() if name in ("global_pool", "num_classes")}


@registered
def tiny_siglip(pretrained=False, **kwargs):
    options = {"global_pool": "map", "class_token": False, **_options(kwargs)}
    return _named(VisionTransformer(64, 16, embed_dim=64, depth=5, num_heads=2, **options), 64)


@registered
def tiny_eva(pretrained=False, **kwargs):
    options = {"global_pool": "token", "use_rot_pos_emb": True, **_options(kwargs)}
    return _named(Eva(64, 16, embed_dim=64, depth=4, num_heads=2, **options), 64)


@registered
def tiny_swin(pretrained=False, **kwargs):
    options = {"depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 2, **_options(kwargs)}
    return _named(SwinTransformer(64, 4, embed_dim=16, **options), 64)


@registered
def tiny_fastvit(pretrained=False, **kwargs):
    options = {"layers": (1, 1, 2, 1), "embed_dims": (16, 16, 32, 32), "mlp_ratios": (2, 2, 2, 2), **_options(kwargs)}
    return _named(FastVit(token_mixers=("repmixer", "repmixer", "repmixer", "attention"), **options), 64)


TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}
VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}


def timm_tower(name, pool, proj, **more):
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": 64, **more}


ARCHITECTURES = {
    "MobileCLIP, not causal": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": timm_tower("tiny_fastvit", "avg", None, timm_drop=0.0, timm_drop_path=0.0),
        "text_cfg": {**TEXT, "no_causal_mask": True},
    },
    "MobileCLIP, causal": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": timm_tower("tiny_fastvit", "avg", None),
        "text_cfg": TEXT,
    },
    "ConvNeXt": {
        "embed_dim": 48,
        "vision_cfg": timm_tower("test_convnext", "", "linear", timm_drop_path=0.1),
        "text_cfg": TEXT,
    },
    "ConvNeXt, MLP": {
        "embed_dim": 48,
        "vision_cfg": timm_tower("test_convnext", "", "mlp"),
        "text_cfg": TEXT,
    },
    "Swin": {"embed_dim": 48, "vision_cfg": timm_tower("tiny_swin", "", "linear"), "text_cfg": TEXT},
    "EVA": {"embed_dim": 48, "vision_cfg": timm_tower("tiny_eva", "token", None), "text_cfg": TEXT},
    "perception encoder": {"embed_dim": 48, "vision_cfg": timm_tower("tiny_eva", "map", None), "text_cfg": TEXT},
    "averaged ViT": {"embed_dim": 48, "vision_cfg": timm_tower("test_vit", "avg", "linear"), "text_cfg": TEXT},
    "ResNet": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "CoCa": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 4},
    },
    "other blocks": {
        "embed_dim": 48,
        "vision_cfg": {**VISION, "qk_norm": True},
        "text_cfg": {**TEXT, "scale_fc": True},
    },
}


def siglip(folder):
    """SigLIP at toy size, with a tokenizer of its kind in `folder`: padded with its end marker, no start marker."""
    write_tokenizer(folder, pad_token="</s>", specials=("<unk>", "</s>"), template="$A </s>")
    return {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": timm_tower("tiny_siglip", "map", "none"),
        "text_cfg": {
            **TEXT, "vocab_size": 64, "hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    }  # fmt: skip


def siglip2(folder):
    """SigLIP 2 at toy size: its tokenizer has a padding token."""
    write_tokenizer(folder, pad_token="<pad>", specials=("<pad>", "</s>", "<unk>"), template="$A </s>")
    architecture = deepcopy(siglip(folder / "first"))
    architecture["text_cfg"] |= {"hf_tokenizer_name": str(folder), "act_kwargs": {"approximate": "tanh"}}
    return architecture


def clipa(folder):
    """CLIPA at toy size: its end marker is written as padding."""
    write_tokenizer(folder, pad_token="<pad>", specials=("<pad>", "</s>", "<unk>", "<s>"), template="<s> $A </s>")
    return {
        "embed_dim": 48,
        "vision_cfg": {**VISION, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            **TEXT, "vocab_size": 64, "hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last", "no_causal_mask": True,
        },
    }  # fmt: skip


def worldwide(folder):
    """CLIP's towers with a multilingual tokenizer, whose end marker is not its highest id."""
    write_tokenizer(folder)
    text = {**TEXT, "vocab_size": 64, "hf_tokenizer_name": str(folder), "pool_type": "eos", "eos_id": 2}
    return {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": text}


def hugging_face(folder, kind="xlm-roberta"):
    """CLIP's image tower with a text tower of transformers: "xlm-roberta", "roberta" or "mt5"."""
    write_tokenizer(folder)
    transformers = importlib.import_module("transformers")
    sizes = {"vocab_size": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if kind == "mt5":
        config = transformers.MT5Config(d_model=32, d_kv=16, d_ff=64, num_layers=3, num_heads=2, **sizes)
    else:
        config_class = {"xlm-roberta": transformers.XLMRobertaConfig, "roberta": transformers.RobertaConfig}[kind]
        config = config_class(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=40, **sizes,
        )  # fmt: skip
    config.to_json_file(folder / "config.json")
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_pooler_type": "mean_pooler"}
    return {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": {**text, "context_length": 20}}


WITH_FILES = {
    "SigLIP": siglip,
    "SigLIP 2": siglip2,
    "CLIPA": clipa,
    "worldwide": worldwide,
    "XLM-RoBERTa": hugging_face,
    "RoBERTa": partial(hugging_face, kind="roberta"),
    "mT5": partial(hugging_face, kind="mt5"),
}


def tiny_encoder(name, folder):
    """An encoder of `ARCHITECTURES` or `WITH_FILES`, ready for evaluation; `folder` holds the files of the latter."""
    torch.manual_seed(0)
    if name in ARCHITECTURES:
        return ClipEncoder(ARCHITECTURES[name]).eval()
    pytest.importorskip("transformers")
    architecture = WITH_FILES[name](folder)
    text_name = architecture["text_cfg"].get("hf_model_name")
    encoder = ClipEncoder(architecture, text_config=text_name and fetch_text_config(text_name))
    encoder.tokenizer.fetch(folder)
    return encoder.eval()


def write_tokenizer(folder, pad_token="<pad>", specials=("<s>", "<pad>", "</s>", "<unk>"), template="<s> $A </s>"):
    """A tokenizer of whole words, as Hugging Face's repositories have it; `specials` get the first ids."""
    tokenizers, transformers = importlib.import_module("tokenizers"), importlib.import_module("transformers")
    ids = {word: number for number, word in enumerate([*specials, *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    markers = [(marker, ids[marker]) for marker in ("<s>", "</s>") if marker in template]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=template, special_tokens=markers)
    tokens = {"unk_token": "<unk>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": pad_token}
    folder.mkdir(parents=True, exist_ok=True)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
