"""CLIP and similar models of open_clip, behind the one interface that the hash heads use."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import open_clip
from torch import nn

from math_hash.data.images import ImageTransform
from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders.architecture import OpenClip, build_clip, image_tower, text_tower
from math_hash.encoders.blocks import CPU_ROWS, runs_in_chunks
from math_hash.encoders.encoder import Encoder, EncoderInput, ParameterGroups
from math_hash.encoders.features import Features, stored_features
from math_hash.encoders.tokenizers import tokenizer_of
from math_hash.errors import InputError

_PLAIN = {"interpolation": "bicubic", "resize_mode": "shortest"}


class ClipEncoder(Encoder):
    """An image tower and a text tower of open_clip: CLIP, SigLIP, MobileCLIP, towers of timm and of Hugging Face.

    CLIP's own towers run in blocks that keep little for their gradients, all others in open_clip's forward pass. Batch
    norm keeps the pretrained statistics, so that a row's features never depend on the rest of its batch.

    Args:
        architecture: open_clip's model configuration: `embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`, ...
        mean, std: normalization of the images' channels, as the weights expect it.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest" or "squash", see `ImageTransform`.
        text_config: of a text tower of Hugging Face's transformers, the content of its `config.json`.

    Attributes:
        architecture, mean, std: as given.
        clip: open_clip's model.

    Raises:
        InputError: the configuration cannot be used.
    """

    takes_pictures = True

    def __init__(
        self,
        architecture: dict[str, Any],
        mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
        std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
        interpolation: str = _PLAIN["interpolation"],
        resize_mode: str = _PLAIN["resize_mode"],
        text_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.architecture, self.mean, self.std = deepcopy(architecture), _channels(mean), _channels(std)
        self._resizing = {"interpolation": interpolation, "resize_mode": resize_mode}
        self._text_config = None if text_config is None else deepcopy(dict(text_config))
        self.clip: OpenClip = build_clip(architecture, text_config)
        self.tokenizer = tokenizer_of(architecture["text_cfg"])
        self.image_tower, self.text_tower = image_tower(self.clip), text_tower(self.clip, self.tokenizer)
        for name in ("logit_scale", "logit_bias"):  # not used in hashing
            if getattr(self.clip, name, None) is not None:
                getattr(self.clip, name).requires_grad_(False)
        self.width = architecture["embed_dim"]
        self.stored_widths = (self.width, self.width)
        widths = (self.image_tower.stage_width, self.text_tower.stage_width)
        self.stage_widths = None if widths[0] is None or widths[1] is None else (widths[0], widths[1])

    @property
    def spec(self) -> dict[str, Any]:
        """See `Encoder.spec`. Values equal to OpenAI's CLIP's are omitted, on which old fingerprints rely."""
        spec = {"kind": "clip", "architecture": self.architecture, "mean": list(self.mean), "std": list(self.std)}
        spec |= {name: value for name, value in self._resizing.items() if value != _PLAIN[name]}
        return spec if self._text_config is None else {**spec, "text_config": self._text_config}

    def describe(self) -> dict[str, Any]:
        """See `Encoder.describe`."""
        known = ("kind", "mean", "std")
        others = {name: value for name, value in self.spec.items() if name not in known}
        return {**others, "transform": [self.resolution, *self.mean, *self.std]}

    @property
    def resolution(self) -> int:
        """See `Encoder.resolution`."""
        side = self.clip.visual.image_size
        return side if isinstance(side, int) else side[0]

    @property
    def context_length(self) -> int:
        """See `Encoder.context_length`."""
        text = self.architecture["text_cfg"]
        return text.get("context_length", 77) if text.get("hf_model_name") else self.clip.context_length

    @property
    def image_transform(self) -> ImageTransform:
        """See `Encoder.image_transform`."""
        return ImageTransform(self.resolution, self.mean, self.std, **self._resizing)

    def encode_image(self, images: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Encode normalized pictures, float (b, 3, resolution, resolution); or pass on their stored features.

        Args:
            needs: with `stages`, pooled states at the end of each quarter of the tower are also returned.

        Raises:
            InputError: `needs` asks for stages, which the encoder does not have.
        """
        if isinstance(images, dict):
            return stored_features(images, needs)
        self._check_stages(needs)
        if not runs_in_chunks(images):
            return self.image_tower.encode(images, needs)
        chunks = [self.image_tower.encode(chunk, needs) for chunk in images.split(CPU_ROWS)]
        return Features.joined(chunks)

    def encode_text(self, token_ids: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Encode token ids, int64 (b, length), length at most the context; or pass on stored features.

        Args:
            needs: with `stages`, pooled states at the end of each quarter of the tower are also returned; without
                `padding`, the tokens at padding positions are arbitrary.

        Raises:
            InputError: the texts are longer than the encoder's context, or `needs` asks for stages, which the encoder
                does not have.
        """
        if isinstance(token_ids, dict):
            return stored_features(token_ids, needs)
        self._check_stages(needs)
        length = token_ids.shape[1]
        if length > self.context_length:
            raise InputError(
                f"`max_words` {length}: this encoder reads at most {self.context_length} tokens; lower `max_words`"
            )
        return self.text_tower.encode(token_ids, self.text_lengths(token_ids), needs)

    def _check_stages(self, needs: Needs) -> None:
        if needs.stages and self.stage_widths is None:
            raise InputError("this encoder gives no states of four depths, which the method needs; choose another one")

    def parameter_groups(self) -> ParameterGroups:
        """All of it is pretrained."""
        return ParameterGroups([parameter for parameter in self.parameters() if parameter.requires_grad], [])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See `Encoder.set_grad_checkpointing`."""
        self.clip.set_grad_checkpointing(enable)

    def train(self, mode: bool = True) -> "ClipEncoder":
        """Set the mode of all modules but batch norm, which stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(False)
        return self


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
