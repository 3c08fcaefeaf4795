"""What an encoder gives for a batch of images or texts."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Features:
    """Features of b instances of one modality, in the space that both modalities share.

    tokens: (b, length, d) projected token states: the patches of an image, the words of a text.
    pooled: (b, d) projected state of the class token, or of the text's end marker.
    padding: bool (b, length), True where a text has no token; None for images, which have no padding and no markers.
    stages: (b, stages, width) unprojected pooled states after the blocks that were asked for, early to late; None
        where none were. `width` is the tower's own.
    """

    tokens: Tensor
    pooled: Tensor
    padding: Tensor | None = None
    stages: Tensor | None = None

    def content_mask(self) -> Tensor | None:
        """Bool (b, length), True at the tokens that carry content: neither padding nor the end marker.

        The first token always counts. None for images, all of whose tokens do.
        """
        if self.padding is None:
            return None
        end = (~self.padding).sum(dim=1, keepdim=True).sub(1).clamp(min=1)
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < end
