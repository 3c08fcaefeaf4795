"""What an encoder is to the rest of the package."""

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

    pretrained: those with trained values, which learn slowly (`--clip-lr`).
    new: those that start at random, which learn with the head (`--lr`).
    """

    pretrained: list[nn.Parameter]
    new: list[nn.Parameter]


class Encoder(nn.Module, ABC):
    """Turns batches of images and of texts into features of one space, (b, d).

    Attributes:
        width: d.
        stage_widths: widths of the states at four depths of the image and of the text tower, `Features.stages`; None
            where it has none.
        stored_widths: widths of the stored features of images and of texts that it accepts in place of its input.
        takes_pictures: whether its input is pictures and token ids; otherwise it is stored features only.
        tokenizer: how texts become input of `encode_text`; unlike the encoder, cheap to hand to data loader workers.
    """

    width: int
    stage_widths: tuple[int, int] | None
    stored_widths: tuple[int, int]
    takes_pictures: bool
    tokenizer: Tokenizer

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `build_encoder` builds it from, before its weights are loaded: JSON values, "kind" among them."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Side of the square input, in pixels."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """The most tokens that a text has."""

    @property
    @abstractmethod
    def image_transform(self) -> ImageTransform:
        """How a picture becomes input of `encode_image`."""

    def tokenize(self, texts: Sequence[str], max_words: int) -> Tensor:
        """Token ids, int64 (n, max_words), markers included, padded at the end; longer texts are cut."""
        return self.tokenizer(texts, max_words)

    def text_lengths(self, token_ids: Tensor) -> Tensor:
        """How many tokens each text has, int64 (n,), markers included, given token ids, int64 (n, length)."""
        return self.tokenizer.lengths(token_ids)

    @abstractmethod
    def encode_image(self, images: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Features of pictures, float (b, 3, resolution, resolution), or of what was stored of them."""

    @abstractmethod
    def encode_text(self, token_ids: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Features of token ids, int64 (b, length), or of what was stored of them.

        Texts may be cut to the longest of the batch; where `needs` has no `padding`, the states of tokens that are
        padding are arbitrary.
        """

    @abstractmethod
    def parameter_groups(self) -> ParameterGroups:
        """The trainable parameters, by how fast they learn."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep less for the gradients and compute it again, where the encoder can."""

    def describe(self) -> dict[str, Any]:
        """What decides its features beside its weights: JSON values, for the names of caches."""
        return self.spec
