"""Features that were computed beforehand, by any encoder or by two different ones, in the place of CLIP."""

from torch import Tensor, nn

from math_hash.encoders.features import Features


class PrecomputedEncoder(nn.Module):
    """Passes stored features on. Where image and text widths differ, a learned linear map a modality joins them.

    Args:
        image_width: width of the stored image features.
        text_width: width of the stored text features.

    Attributes:
        width: the shared width d, the smaller of the two.
    """

    def __init__(self, image_width: int, text_width: int):
        super().__init__()
        self.image_width, self.text_width = image_width, text_width
        self.width = min(image_width, text_width)
        same = image_width == text_width
        self.image_map = nn.Identity() if same else nn.Linear(image_width, self.width)
        self.text_map = nn.Identity() if same else nn.Linear(text_width, self.width)

    def encode_image(self, stored: dict[str, Tensor]) -> Features:
        """`stored`: tokens (b, length, image_width) and pooled (b, image_width), float."""
        return Features(self.image_map(stored["tokens"]), self.image_map(stored["pooled"]))

    def encode_text(self, stored: dict[str, Tensor]) -> Features:
        """`stored`: tokens (b, length, text_width) and pooled (b, text_width), float; padding, bool (b, length)."""
        return Features(self.text_map(stored["tokens"]), self.text_map(stored["pooled"]), stored["padding"])
