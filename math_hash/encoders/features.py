"""The output of an encoder for a batch of images or texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data.needs import Needs


@dataclass
class Features:
    """Features of b instances of one modality, in the space that both modalities share.

    tokens: (b, length, d) projected token states: the patches of an image, the words of a text; None if they were
        not asked for.
    pooled: (b, d) projected state of the class token, or of the text's end marker.
    padding: bool (b, length), True where a text has no token; None for images, which have no padding and no markers.
    stages: (b, 4, width) unprojected pooled states at four depths, early to late, `width` being the tower's own; None
        if they were not asked for.
    batch: float (rows of the batch, d) pooled vectors of the whole training batch, over all processes; None if they
        were not asked for, and outside training.
    """

    tokens: Tensor | None
    pooled: Tensor
    padding: Tensor | None = None
    stages: Tensor | None = None
    batch: Tensor | None = None

    def content_mask(self) -> Tensor | None:
        """Bool (b, length), True at the tokens that carry content: neither padding nor the end marker.

        The first token always counts. None for images, all of whose tokens count.
        """
        if self.padding is None:
            return None
        end = (~self.padding).sum(dim=1, keepdim=True).sub(1).clamp(min=1)
        return torch.arange(self.padding.shape[1], device=self.padding.device) < end

    @classmethod
    def joined(cls, chunks: Sequence["Features"], length: int | None = None) -> "Features":
        """Concatenate several batches; up to `length`, tokens are padded with zeros and padding with True."""

        def together(values: Sequence[Tensor | None], dim: int | None = None, fill: float = 0) -> Tensor | None:
            known = [value for value in values if value is not None]
            if dim is not None and length is not None:
                known = [F.pad(value, (0, 0) * dim + (0, length - value.shape[1]), value=fill) for value in known]
            return torch.cat(known) if known else None

        return cls(
            tokens=together([chunk.tokens for chunk in chunks], 1),
            pooled=torch.cat([chunk.pooled for chunk in chunks]),
            padding=together([chunk.padding for chunk in chunks], 0, True),
            stages=together([chunk.stages for chunk in chunks]),
        )

    def of_rows(self, rows: Tensor) -> "Features":
        """The features of `rows`, int64 (m,), in this order."""
        return Features(
            tokens=None if self.tokens is None else self.tokens[rows],
            pooled=self.pooled[rows],
            padding=None if self.padding is None else self.padding[rows],
            stages=None if self.stages is None else self.stages[rows],
        )

    def float(self) -> "Features":
        """The same in float32."""
        return replace(
            self,
            tokens=None if self.tokens is None else self.tokens.float(),
            pooled=self.pooled.float(),
            stages=None if self.stages is None else self.stages.float(),
        )


def stored_features(
    stored: dict[str, Tensor], needs: Needs, to_width: Callable[[Tensor], Tensor] | None = None
) -> Features:
    """Features from a `FeatureFolder.batch`; `to_width` is applied to tokens and pooled vectors."""
    to_width = to_width or nn.Identity()
    tokens = to_width(stored["tokens"]) if needs.tokens else None
    return Features(tokens, to_width(stored["pooled"]), stored.get("padding"), stored.get("stages"))
