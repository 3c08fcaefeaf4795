"""The interface of an encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from math_hash.data.images import ImageTransform
from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders.features import Features
from math_hash.encoders.tokenizers import Tokenizer

EncoderInput = Tensor | dict[str, Tensor]


class ParameterGroups(NamedTuple):
    """The trainable parameters of an encoder.

    pretrained: those with pretrained values, which learn slowly (`--clip-lr`).
    new: those with random initial values, which learn at the head's rate (`--lr`).
    """

    pretrained: list[nn.Parameter]
    new: list[nn.Parameter]


class Encoder(nn.Module, ABC):
    """Turns batches of images and of texts into features of one space, (b, d).

    Attributes:
        width: d.
        stage_widths: widths of the states at four depths of the image and of the text tower, `Features.stages`; None
            if it has none.
        stored_widths: widths of the stored features of images and of texts that it accepts in place of its input.
        takes_pictures: whether its input is pictures and token ids; otherwise it is stored features only.
        tokenizer: turns texts into input for `encode_text`; unlike the encoder, cheap to send to data loader workers.
    """

    width: int
    stage_widths: tuple[int, int] | None
    stored_widths: tuple[int, int]
    takes_pictures: bool
    tokenizer: Tokenizer

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """JSON values, among them "kind", from which `build_encoder` builds it, before its weights are loaded."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Side of the square input, in pixels."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """The maximum number of tokens in a text."""

    @property
    @abstractmethod
    def image_transform(self) -> ImageTransform:
        """Turns a picture into input for `encode_image`."""

    def tokenize(self, texts: Sequence[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words), markers included, padded at the end; longer texts are cut."""
        return self.tokenizer(texts, max_words)

    def text_lengths(self, token_ids: Tensor) -> Tensor:
        """How many tokens each text has, int64 (n,), markers included, given token ids, int64 (n, length)."""
        return self.tokenizer.lengths(token_ids)

    @abstractmethod
    def encode_image(self, images: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Features of pictures, float (b, 3, resolution, resolution), or from their stored features."""

    @abstractmethod
    def encode_text(self, token_ids: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Features of token ids, int64 (b, length), or from stored features.

        Texts may be cut to the longest of the batch; without `needs.padding`, the states at padding positions are
        arbitrary.
        """

    @abstractmethod
    def parameter_groups(self) -> ParameterGroups:
        """The trainable parameters, grouped by learning rate."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute states for the gradients instead of keeping them, if the encoder supports it."""

    def describe(self) -> dict[str, Any]:
        """Everything besides its weights that determines its features: JSON values, for the names of caches."""
        return self.spec
