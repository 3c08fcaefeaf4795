"""CLIP's own two towers, run in blocks that keep little for their gradients."""

from typing import Any

import torch
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from math_hash.data.needs import Needs
from math_hash.encoders.blocks import (
    chunks_by_length,
    is_ordinary,
    linear_of,
    padding_mask,
    run_blocks,
    runs_in_chunks,
)
from math_hash.encoders.features import Features
from math_hash.encoders.towers import ImageTower, TextTower, quarters


class ClipImageTower(ImageTower):
    """A vision transformer with a class token.

    The layer norm after the last block and the projection are applied to every token, not only to the pooled one.
    """

    def __init__(self, visual: VisionTransformer):
        self._visual = visual
        self.stage_width = visual.transformer.width
        visual.conv1.to(memory_format=torch.channels_last)  # the fastest layout for convolutions on a GPU

    @staticmethod
    def runs(visual: nn.Module) -> bool:
        """Whether `visual` is such a tower."""
        return (
            isinstance(visual, VisionTransformer)
            and visual.attn_pool is None
            and visual.pool_type in ("tok", "avg")
            and is_ordinary(visual.transformer)
        )

    def encode(self, images: Tensor, needs: Needs) -> Features:
        """See `ImageTower.encode`; stages are states of the class token."""
        visual = self._visual
        stages = quarters(len(visual.transformer.resblocks)) if needs.stages else []
        if images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        last, states = run_blocks(visual.transformer, self._embed(images), depths=stages)
        projected = linear_of(visual.ln_post, last, visual.proj.T)  # pooling is linear, so it may come last
        normed_last = visual.final_ln_after_pool
        return Features(
            tokens=projected[:, 1:],
            pooled=visual.ln_post(self._pool(last)) @ visual.proj if normed_last else self._pool(projected),
            stages=torch.stack([states[stage][:, 0] for stage in stages], dim=1) if stages else None,
        )

    def _embed(self, images: Tensor) -> Tensor:
        """The class token and the patches, (b, 1 + patches, width), with their positions."""
        visual = self._visual
        patches = visual.conv1(images).flatten(2).transpose(1, 2)
        start = visual.class_embedding.view(1, 1, -1).expand(images.shape[0], -1, -1).to(patches.dtype)
        states = torch.cat([start, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        return visual.ln_pre(visual.patch_dropout(states))

    def _pool(self, states: Tensor) -> Tensor:
        return states[:, 0] if self._visual.pool_type == "tok" else states[:, 1:].mean(dim=1)


class ClipTextTower(TextTower):
    """A causal transformer; its state at the end marker is the pooled one.

    A text shorter than the context uses the first position embeddings. Padding positions are masked as keys on top of
    the causal mask, which changes only the padding positions' own states.

    Args:
        text: the text tower, a module of its own in some of open_clip's classes, the CLIP itself in others.
    """

    def __init__(self, text: TextTransformer):
        self._text = text
        self.stage_width = text.transformer.width

    @staticmethod
    def runs(text: Any) -> bool:
        """Whether `text` is such a tower, apart from how it finds the end marker."""
        return (
            getattr(text, "attn_mask", None) is not None
            and getattr(text, "cls_emb", None) is None
            and getattr(text, "text_projection", None) is not None
            and is_ordinary(text.transformer)
        )

    def encode(self, token_ids: Tensor, lengths: Tensor, needs: Needs) -> Features:
        """See `TextTower.encode`; stages are states of the end marker.

        Without `needs.padding`, the tokens at padding positions are arbitrary.
        """
        end = lengths - 1
        embedded = self._text.token_embedding(token_ids)
        if needs.padding or not runs_in_chunks(token_ids):
            return self._encode(embedded, end, needs)
        rows, longest = chunks_by_length(lengths)
        chunks = [self._encode(embedded[r, :n], end[r], needs) for r, n in zip(rows, longest, strict=True)]
        return Features.joined(chunks, token_ids.shape[1]).of_rows(torch.cat(rows).argsort())

    def _encode(self, embedded: Tensor, end: Tensor, needs: Needs) -> Features:
        text = self._text
        batch, length, _ = embedded.shape
        padding = torch.arange(length, device=embedded.device) > end[:, None]
        embedded = embedded + text.positional_embedding[:length]
        mask = padding_mask(padding, embedded.dtype) + text.attn_mask[:length, :length]  # causal
        stages = quarters(len(text.transformer.resblocks)) if needs.stages else []
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
