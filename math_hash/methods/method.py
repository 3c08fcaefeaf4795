"""What a hash method is to the rest of the package."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from math_hash.encoders.features import Features

# joins a batch's rows from all processes, with gradients: (b_local, ...) -> (b, ...)
Gather = Callable[[Tensor], Tensor]


class Method(nn.Module):
    """A hash head on an encoder's features, and its objective.

    A method's constructor takes `width` and `k_bits`, and as keywords the options of `Config` that concern it.

    Attributes:
        streams: names of its code banks.
        k_bits: k.
        needs_labels: whether its objective uses labels.
    """

    streams: tuple[str, ...]
    k_bits: int
    needs_labels: bool = True

    def hash_image(self, image: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of images alone."""
        raise NotImplementedError

    def hash_text(self, text: Features) -> Tensor:
        """Continuous codes (b, k) in (-1, 1) of texts alone."""
        raise NotImplementedError

    def forward(self, image: Features, text: Features, label: Features, gather: Gather) -> Any:
        """Whatever the objective needs of a training batch, each tensor gathered to all of the batch's b rows."""
        raise NotImplementedError

    def bank_codes(self, outputs: Any) -> dict[str, Tensor]:
        """The codes that go into the banks: stream -> (b, k)."""
        raise NotImplementedError

    def loss_terms(
        self, outputs: Any, labels: Tensor, bank: dict[str, Tensor], bank_labels: Tensor
    ) -> dict[str, Tensor]:
        """The weighted terms of the objective; their sum is minimised.

        Args:
            outputs: what `forward` returned.
            labels: 0/1 (b, c).
            bank: stream -> (n, k), the latest codes of the training rows, the batch's included; constant.
            bank_labels: 0/1 (n, c).
        """
        raise NotImplementedError
