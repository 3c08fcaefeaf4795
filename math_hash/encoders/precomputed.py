"""Features that were computed beforehand, by any encoder or by two different ones, in the place of CLIP."""

from collections.abc import Sequence

from torch import Tensor, nn

from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders.features import Features, stored_features


class PrecomputedEncoder(nn.Module):
    """Passes stored features on. Where image and text widths differ, a learned linear map a modality joins them.

    Args:
        image_width: width of the stored image features.
        text_width: width of the stored text features.
        stage_widths: of the stored stages of images and of texts; None where there are none.

    Attributes:
        width: the shared width d, the smaller of the two.
    """

    def __init__(self, image_width: int, text_width: int, stage_widths: Sequence[int] | None = None):
        super().__init__()
        self.image_width, self.text_width = image_width, text_width
        self.stage_widths = None if stage_widths is None else tuple(stage_widths)
        self.width = min(image_width, text_width)
        same = image_width == text_width
        self.image_map = nn.Identity() if same else nn.Linear(image_width, self.width)
        self.text_map = nn.Identity() if same else nn.Linear(text_width, self.width)

    def encode_image(self, stored: dict[str, Tensor], needs: Needs = EVERYTHING) -> Features:
        """`stored`: pooled (b, image_width), and as `needs` says tokens (b, length, image_width), stages; float."""
        return stored_features(stored, needs, self.image_map)

    def encode_text(self, stored: dict[str, Tensor], needs: Needs = EVERYTHING) -> Features:
        """`stored`: as for images, with text_width, and padding, bool (b, length), beside tokens."""
        return stored_features(stored, needs, self.text_map)
