"""What an encoder gives for a batch of images or texts."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Features:
    """Features of b instances of one modality, in the space that both modalities share.

    tokens: (b, length, d) projected token states: the patches of an image, the words of a text; None where they were
        not asked for.
    pooled: (b, d) projected state of the class token, or of the text's end marker.
    padding: bool (b, length), True where a text has no token; None for images, which have no padding and no markers.
    stages: (b, 4, width) unprojected pooled states of four depths, early to late, `width` being the tower's own; None
        where they were not asked for.
    """

    tokens: Tensor | None
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


def stored_features(
    stored: dict[str, Tensor], needs: Collection[str], to_width: Callable[[Tensor], Tensor] | None = None
) -> Features:
    """Features as `FeatureFolder.batch` gives them; `to_width` is applied to tokens and pooled vectors."""
    to_width = to_width or nn.Identity()
    tokens = to_width(stored["tokens"]) if "tokens" in needs else None
    return Features(tokens, to_width(stored["pooled"]), stored.get("padding"), stored.get("stages"))
