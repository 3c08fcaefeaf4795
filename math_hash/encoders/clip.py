"""CLIP as open_clip builds it, behind the one interface that the hash heads use."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from math_hash.data.images import ImageTransform
from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders.blocks import (
    CPU_ROWS,
    is_ordinary,
    is_taken_in_parts,
    linear_of,
    padding_mask,
    parts_by_length,
    run_blocks,
)
from math_hash.encoders.features import Features, stored_features
from math_hash.errors import InputError


class ClipEncoder(nn.Module):
    """A CLIP with a vision transformer and an ordinary causal text tower.

    The layer norm after the last block and the projection are applied to every token, not only to the pooled one. A
    text shorter than the context uses the first position embeddings. Padding positions of a text are masked as keys
    on top of the causal mask, which changes only the padding positions' own states. The pooled text vector is the
    state at the highest token id, the end marker.

    Args:
        architecture: open_clip's model configuration: `embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`, ...
        mean, std: of the images' channels, as the weights expect them.

    Attributes:
        width: d, the width of the shared space.
        architecture, mean, std: as given; with the weights they rebuild the encoder.

    Raises:
        InputError: the configuration is not of that kind.
    """

    def __init__(
        self,
        architecture: dict[str, Any],
        mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
        std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
    ):
        super().__init__()
        self.architecture, self.mean, self.std = deepcopy(architecture), tuple(mean), tuple(std)
        _check_ordinary(architecture)
        config = deepcopy(architecture)
        model_class = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        self.clip = model_class(**config)
        if not (is_ordinary(self.clip.visual.transformer) and is_ordinary(self._text.transformer)):
            raise InputError(_NOT_ORDINARY.format("its blocks are not CLIP's ordinary ones"))
        self.clip.visual.conv1.to(memory_format=torch.channels_last)  # the layout in which a GPU convolves fastest
        for name in ("logit_scale", "logit_bias"):  # they take no part in hashing
            if getattr(self.clip, name, None) is not None:
                getattr(self.clip, name).requires_grad_(False)
        self.width = architecture["embed_dim"]
        self.context_length = self.clip.context_length

    @property
    def _text(self) -> nn.Module:
        """The text tower: a module of its own in some of open_clip's classes."""
        return getattr(self.clip, "text", self.clip)

    @property
    def resolution(self) -> int:
        """Side of the square input, in pixels."""
        return self.clip.visual.image_size[0]

    @property
    def image_transform(self) -> ImageTransform:
        """How a picture becomes input of `encode_image`."""
        return ImageTransform(self.resolution, self.mean, self.std)

    @staticmethod
    def tokenize(texts: list[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words): start marker, byte pairs, end marker, zeros; longer texts are cut."""
        return open_clip.tokenize(texts, context_length=max_words)

    @property
    def stage_widths(self) -> tuple[int, int]:
        """Widths of the image and the text tower's states."""
        return self.architecture["vision_cfg"]["width"], self.architecture["text_cfg"]["width"]

    def encode_image(self, images: Tensor | dict[str, Tensor], needs: Needs = EVERYTHING) -> Features:
        """Encode normalised pictures, float (b, 3, resolution, resolution); or pass on what was stored of them.

        Args:
            needs: with `stages`, the class token's state at the end of each quarter of the tower is given too.
        """
        if isinstance(images, dict):
            return stored_features(images, needs)
        if not is_taken_in_parts(images):
            return self._encode_pictures(images, needs)
        parts = [self._encode_pictures(some, needs) for some in images.split(CPU_ROWS)]
        return Features.joined(parts, parts[0].tokens.shape[1])

    def _encode_pictures(self, images: Tensor, needs: Needs) -> Features:
        visual = self.clip.visual
        stages = _quarters(len(visual.transformer.resblocks)) if needs.stages else []
        if images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        last, states = run_blocks(visual.transformer, visual._embeds(images), depths=stages)
        projected = linear_of(visual.ln_post, last, visual.proj.T)  # pooling is linear, so it may come last
        pooled = (
            visual._pool(last)[0] @ visual.proj if visual.final_ln_after_pool else visual._global_pool(projected)[0]
        )
        return Features(
            tokens=projected[:, 1:],
            pooled=pooled,
            stages=torch.stack([states[stage][:, 0] for stage in stages], dim=1) if stages else None,
        )

    def encode_text(self, token_ids: Tensor | dict[str, Tensor], needs: Needs = EVERYTHING) -> Features:
        """Encode token ids, int64 (b, length), zero padded, length at most the context; or pass on what was stored.

        Args:
            needs: with `stages`, the end marker's state at the end of each quarter of the tower is given too; without
                `padding`, the tokens at padding positions are anything.

        Raises:
            InputError: the texts are longer than the encoder's context.
        """
        if isinstance(token_ids, dict):
            return stored_features(token_ids, needs)
        length = token_ids.shape[1]
        if length > self.context_length:
            raise InputError(
                f"--max-words {length}: this encoder reads at most {self.context_length} tokens; lower --max-words"
            )
        end = token_ids.argmax(dim=1)
        embedded = self._text.token_embedding(token_ids)
        if needs.padding or not is_taken_in_parts(token_ids):
            return self._encode_texts(embedded, end, needs)
        rows, longest = parts_by_length(end + 1)
        parts = [self._encode_texts(embedded[r, :n], end[r], needs) for r, n in zip(rows, longest, strict=True)]
        return Features.joined(parts, length).of_rows(torch.cat(rows).argsort())

    def _encode_texts(self, embedded: Tensor, end: Tensor, needs: Needs) -> Features:
        text = self._text
        batch, length, _ = embedded.shape
        padding = torch.arange(length, device=embedded.device) > end[:, None]
        embedded = embedded + text.positional_embedding[:length]
        mask = padding_mask(padding, embedded.dtype)
        if text.attn_mask is not None:
            mask = mask + text.attn_mask[:length, :length]  # causal
        stages = _quarters(len(text.transformer.resblocks)) if needs.stages else []
        last, states = run_blocks(text.transformer, embedded, mask, stages)
        projection = text.text_projection
        linear = (projection.weight, projection.bias) if isinstance(projection, nn.Linear) else (projection.T,)
        tokens = linear_of(text.ln_final, last, *linear)
        rows = torch.arange(batch, device=end.device)
        return Features(
            tokens=tokens,
            pooled=tokens[rows, end],
            padding=padding,
            stages=torch.stack([states[stage][rows, end] for stage in stages], dim=1) if stages else None,
        )


def _quarters(layers: int) -> list[int]:
    """Numbers of the blocks that end each quarter of a tower; a tower of fewer than four blocks repeats some."""
    return [-(-layers * quarter // 4) - 1 for quarter in range(1, 5)]


_NOT_ORDINARY = "this open_clip model cannot be used: {}; use one such as ViT-B-32-quickgelu"


def _check_ordinary(architecture: dict[str, Any]) -> None:
    vision, text = architecture["vision_cfg"], architecture["text_cfg"]
    reason = None
    if not isinstance(vision.get("layers"), int) or vision.get("timm_model_name") or vision.get("attentional_pool"):
        reason = "its image tower is not a plain vision transformer"
    elif "multimodal_cfg" in architecture or text.keys() & {"hf_model_name", "hf_tokenizer_name", "embed_cls"}:
        reason = "its text tower is not CLIP's ordinary one"
    elif text.get("pool_type", "argmax") != "argmax" or text.get("proj_type", "linear") != "linear":
        reason = "its text tower does not project the state at the end marker"
    if reason:
        raise InputError(_NOT_ORDINARY.format(reason))
