"""Features that were computed in advance, by any encoder or by two different ones, in place of CLIP."""

from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor
from torch.nn import functional as F

from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders.encoder import Encoder, EncoderInput, ParameterGroups
from math_hash.encoders.features import Features, stored_features
from math_hash.errors import InputError


class PrecomputedEncoder(Encoder):
    """Passes stored features on. If image and text widths differ, zeros fill the narrower ones.

    Nothing is learned here: a learned map to one width in front of the heads made codes worse (docs/methods.md).

    Args:
        image_width: width of the stored image features.
        text_width: width of the stored text features.
        stage_widths: of the stored stages of images and of texts; None if there are none.

    Attributes:
        width: the shared width d, the larger of the two.
    """

    takes_pictures = False

    def __init__(self, image_width: int, text_width: int, stage_widths: Sequence[int] | None = None):
        super().__init__()
        self.tokenizer = _NoTokenizer()
        self.stored_widths = (image_width, text_width)
        self.stage_widths = None if stage_widths is None else (stage_widths[0], stage_widths[1])
        self.width = max(image_width, text_width)

    @property
    def spec(self) -> dict[str, Any]:
        """See `Encoder.spec`."""
        image_width, text_width = self.stored_widths
        return {
            "kind": "precomputed",
            "image_width": image_width,
            "text_width": text_width,
            "stage_widths": self.stage_widths,
        }

    def encode_image(self, stored: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """`stored`: float pooled (b, image_width) and, as `needs` asks, tokens (b, length, image_width), stages."""
        return stored_features(_stored(stored), needs, self._padded)

    def encode_text(self, stored: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """`stored`: as for images, with text_width, and with tokens also padding, bool (b, length)."""
        return stored_features(_stored(stored), needs, self._padded)

    def _padded(self, values: Tensor) -> Tensor:
        """From (..., image_width or text_width) to (..., width)."""
        return F.pad(values, (0, self.width - values.shape[-1]))

    def parameter_groups(self) -> ParameterGroups:
        """It has none."""
        return ParameterGroups([], [])

    @property
    def resolution(self) -> NoReturn:
        """Raises `InputError`: it takes no pictures."""
        _refuse()

    @property
    def context_length(self) -> NoReturn:
        """Raises `InputError`: it takes no texts."""
        _refuse()

    @property
    def image_transform(self) -> NoReturn:
        """Raises `InputError`: it takes no pictures."""
        _refuse()


class _NoTokenizer:
    is_clips = False

    @property
    def pad_id(self) -> NoReturn:
        _refuse()

    def __call__(self, texts: Sequence[str], max_words: int) -> NoReturn:
        _refuse()

    def lengths(self, token_ids: Tensor) -> NoReturn:
        _refuse()


def _stored(value: EncoderInput) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        _refuse()
    return value


def _refuse() -> NoReturn:
    raise InputError("this model was trained on stored features and has no encoder for pictures or texts")
