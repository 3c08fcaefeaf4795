"""The interface of the towers of `ClipEncoder`: one for images, one for texts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from math_hash.data.needs import Needs
from math_hash.encoders.features import Features


class ImageTower(ABC):
    """An image tower and the projection that follows it.

    stage_width: width of `Features.stages`; None where the tower does not give its states.
    """

    stage_width: int | None

    @abstractmethod
    def encode(self, images: Tensor, needs: Needs) -> Features:
        """Features of normalized pictures, float (b, 3, resolution, resolution)."""

    @contextmanager
    def at_published_size(self) -> Iterator[None]:
        """Inside the block, published weights fit the tower, whatever resolution it was built for."""
        yield


class TextTower(ABC):
    """A text tower and the projection that follows it.

    stage_width: width of `Features.stages`; None where the tower does not give its states.
    """

    stage_width: int | None

    @abstractmethod
    def encode(self, token_ids: Tensor, lengths: Tensor, needs: Needs) -> Features:
        """Features of token ids, int64 (b, length); `lengths`, int64 (b,), counts those that are not padding."""


def quarters(layers: int) -> list[int]:
    """Indices of the blocks that end each quarter of a tower; a tower with fewer than four blocks repeats some.

    >>> quarters(12), quarters(2)
    ([2, 5, 8, 11], [0, 0, 1, 1])
    """
    return [-(-layers * quarter // 4) - 1 for quarter in range(1, 5)]
