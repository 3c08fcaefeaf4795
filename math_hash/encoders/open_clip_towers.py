"""All towers of open_clip besides CLIP's own two, run by open_clip's forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import open_clip
import torch
from open_clip.hf_model import BaseModelOutput, HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data.needs import Needs
from math_hash.encoders.features import Features
from math_hash.encoders.tokenizers import Tokenizer
from math_hash.encoders.towers import ImageTower, TextTower, quarters


class TransformerImageTower(ImageTower):
    """open_clip's vision transformer with other blocks or with attention pooling (CoCa).

    With attention pooling, tokens are the outputs of its queries, except the first, which is the pooled one.
    """

    def __init__(self, visual: VisionTransformer):
        self._visual = visual
        self.stage_width = visual.transformer.width

    def encode(self, images: Tensor, needs: Needs) -> Features:
        """See `ImageTower.encode`; stages are states of the class token."""
        visual = self._visual
        layers = len(visual.transformer.resblocks)
        stages = quarters(layers) if needs.stages else []
        depths = sorted({*stages, layers - 1})
        output = visual.forward_intermediates(images, indices=depths, output_fmt="NLC", output_extra_tokens=True)
        starts = [states[:, 0] for states in output["image_intermediates_prefix"]]
        tokens = None
        if needs.tokens:
            tokens = output["image_intermediates"][-1]
            if visual.attn_pool is not None:
                tokens = visual.attn_pool(torch.cat([starts[-1][:, None], tokens], dim=1))[:, 1:]
            tokens = visual.ln_post(tokens) @ visual.proj
        return Features(
            tokens=tokens,
            pooled=output["image_features"],
            stages=torch.stack([starts[depths.index(stage)] for stage in stages], dim=1) if stages else None,
        )


class ResNetImageTower(ImageTower):
    """CLIP's residual networks, with attention pooling.

    A token is a position of the last feature map, after the pooling's value and output projections (Zhou et al. 2022,
    "Extract free dense labels from CLIP", section 3.2).
    """

    def __init__(self, visual: ModifiedResNet):
        self._visual = visual
        self.stage_width = visual.attnpool.v_proj.in_features

    def encode(self, images: Tensor, needs: Needs) -> Features:
        """See `ImageTower.encode`; stages are the averages of the four feature maps, padded with zeros."""
        pooling = self._visual.attnpool
        output = self._visual.forward_intermediates(images, indices=[1, 2, 3, 4] if needs.stages else [4])
        maps = output["image_intermediates"]
        return Features(
            tokens=pooling.c_proj(pooling.v_proj(_places(maps[-1]))) if needs.tokens else None,
            pooled=output["image_features"],
            stages=_stacked([states.mean(dim=(2, 3)) for states in maps], self.stage_width) if needs.stages else None,
        )


class TimmImageTower(ImageTower):
    """An image tower of timm: SigLIP's, MobileCLIP's, ConvNeXt, EVA and others.

    A token is the result of the tower's pooling and projection for one position alone. So if a linear projection
    directly follows average pooling, the pooled vector is the average of the tokens.
    """

    def __init__(self, visual: TimmModel):
        self._visual, self._trunk = visual, visual.trunk
        self.stage_width = None
        if hasattr(self._trunk, "forward_intermediates"):
            widths = [level["num_chs"] for level in self._trunk.feature_info]
            self._stages = quarters(len(widths))
            self.stage_width = max(widths[stage] for stage in self._stages)

    def encode(self, images: Tensor, needs: Needs) -> Features:
        """See `ImageTower.encode`.

        Stages are states of the class token if that is the pooled one, else averages over the positions; those of
        narrower levels are padded with zeros.
        """
        trunk = self._trunk
        stages = None
        if needs.stages:
            last, levels = trunk.forward_intermediates(images, indices=sorted(set(self._stages)), **self._prefix)
            pooled = [self._pool(level) for level in levels]
            depths = sorted(set(self._stages))
            stages = _stacked([pooled[depths.index(stage)] for stage in self._stages], self.stage_width)
        else:
            last = trunk.forward_features(images)
        return Features(tokens=self._tokens(last) if needs.tokens else None, pooled=self._project(last), stages=stages)

    @contextmanager
    def at_published_size(self) -> Iterator[None]:
        """See `ImageTower.at_published_size`."""
        size, published = self._visual.image_size[0], published_size(self._visual)
        if size == published:
            yield
            return
        self._visual.set_input_size(published)
        try:
            yield
        finally:
            self._visual.set_input_size(size)

    def _project(self, states: Tensor) -> Tensor:
        return self._visual.head(self._trunk.forward_head(states))

    def _tokens(self, states: Tensor) -> Tensor:
        if states.ndim == 3:  # (b, prefix tokens such as the class token + positions, width)
            before = self._trunk.num_prefix_tokens
            places = states[:, before:]
            alone = places.reshape(-1, 1, places.shape[-1]).expand(-1, before + 1, -1)  # also as the prefix tokens
        else:
            places = _places(states, self._channels_last)
            alone = places.reshape(-1, 1, 1, places.shape[-1])
            alone = alone if self._channels_last else alone.permute(0, 3, 1, 2)
        return self._project(alone).reshape(*places.shape[:2], -1)

    @property
    def _channels_last(self) -> bool:
        return getattr(self._trunk, "output_fmt", "NCHW") == "NHWC"

    @property
    def _has_class_token(self) -> bool:
        return getattr(self._trunk, "num_prefix_tokens", 0) > 0 and self._trunk.global_pool == "token"

    @property
    def _prefix(self) -> dict[str, bool]:
        return {"return_prefix_tokens": True} if self._has_class_token else {}

    def _pool(self, level: Any) -> Tensor:
        if isinstance(level, tuple):
            return level[1][:, 0]
        return level.mean(dim=(2, 3))


class TransformerTextTower(TextTower):
    """open_clip's text transformer with other pooling or without a causal mask: SigLIP, MobileCLIP, CoCa.

    Its tokens attend to the padding, so texts are padded to the whole context, as in the training of the weights.
    """

    def __init__(self, clip: open_clip.CustomTextCLIP, tokenizer: Tokenizer):
        self._clip, self._tokenizer = clip, tokenizer
        self._text = getattr(clip, "text", clip)
        self._pooling = getattr(self._text, "pool_type", None) or clip.text_pool_type
        self._end = getattr(self._text, "eos_id", None) or getattr(clip, "text_eos_id", None)
        self.stage_width = self._text.transformer.width

    def encode(self, token_ids: Tensor, lengths: Tensor, needs: Needs) -> Features:
        """See `TextTower.encode`; stages are pooled as the last state is."""
        length, layers = token_ids.shape[1], len(self._text.transformer.resblocks)
        whole = F.pad(token_ids, (0, self._clip.context_length - length), value=self._tokenizer.pad_id)
        stages = quarters(layers) if needs.stages else []
        depths = sorted({*stages, layers - 1})
        output = self._clip.forward_intermediates(
            text=whole, text_indices=depths, normalize=False, text_output_extra_tokens=True
        )
        states = output["text_intermediates"]
        pooled = [suffix[:, 0] for suffix in output.get("text_intermediates_suffix", ())] or [
            text_global_pool(state, whole, self._pooling, eos_token_id=self._end) for state in states
        ]
        return Features(
            tokens=self._project(self._text.ln_final(states[-1][:, :length])) if needs.tokens else None,
            pooled=output["text_features"],
            padding=torch.arange(length, device=lengths.device) >= lengths[:, None],
            stages=torch.stack([pooled[depths.index(stage)] for stage in stages], dim=1) if stages else None,
        )

    def _project(self, states: Tensor) -> Tensor:
        projection = self._text.text_projection
        if projection is None:
            return states
        return projection(states) if isinstance(projection, nn.Linear) else states @ projection


class HuggingFaceTextTower(TextTower):
    """A text tower of Hugging Face's transformers: XLM-RoBERTa, mT5 and others. Padding is masked."""

    def __init__(self, text: HFTextEncoder):
        self._text = text
        self.stage_width = text.config.hidden_size

    def encode(self, token_ids: Tensor, lengths: Tensor, needs: Needs) -> Features:
        """See `TextTower.encode`; stages are pooled as the last state is."""
        text = self._text
        mask = (token_ids != text.config.pad_token_id).long()
        output = text.transformer(input_ids=token_ids, attention_mask=mask, output_hidden_states=needs.stages)
        stages = None
        if needs.stages:
            states = output.hidden_states[1:]  # the first are the embeddings
            pooled = [text.pooler(BaseModelOutput(states[stage]), mask) for stage in quarters(len(states))]
            stages = torch.stack(pooled, dim=1)
        return Features(
            tokens=text.proj(output.last_hidden_state) if needs.tokens else None,
            pooled=text.proj(text.pooler(output, mask)),
            padding=torch.arange(token_ids.shape[1], device=lengths.device) >= lengths[:, None],
            stages=stages,
        )


def published_size(visual: TimmModel) -> int:
    """The resolution, in pixels, of a timm tower's published weights; that of the tower if it has no fixed one."""
    if not hasattr(visual.trunk, "set_input_size"):
        return visual.image_size[0]
    return visual.trunk.default_cfg["input_size"][-1]


def _places(states: Tensor, channels_last: bool = False) -> Tensor:
    """A feature map as (b, positions, width)."""
    return states.flatten(1, 2) if channels_last else states.flatten(2).transpose(1, 2)


def _stacked(states: Sequence[Tensor], width: int | None) -> Tensor:
    """Stack states (b, w), w at most `width`, to (b, len(states), width), padded with zeros."""
    return torch.stack([F.pad(state, (0, (width or 0) - state.shape[1])) for state in states], dim=1)
