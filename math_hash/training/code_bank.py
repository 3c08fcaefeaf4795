"""The latest codes of every training row."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class CodeBank(nn.Module):
    """Named banks, float32 (n_train, width) each, drawn from a normal distribution at the start.

    Args:
        widths: name -> width of each bank.
        labels: 0/1 (n_train, c), the rows' labels.
        seed: seed of the initial codes.
    """

    labels: Tensor

    def __init__(self, widths: Mapping[str, int], labels: Tensor, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.names = tuple(widths)
        self.register_buffer("labels", labels, persistent=False)
        for name, width in widths.items():
            self.register_buffer(name, torch.randn(len(labels), width, generator=generator))

    @property
    def codes(self) -> dict[str, Tensor]:
        """Name -> bank."""
        return {name: self.get_buffer(name) for name in self.names}

    @torch.no_grad()
    def write(self, rows: Tensor, codes: dict[str, Tensor]) -> None:
        """Replace the codes of `rows`, int64 (b,), in each bank that `codes` names: bank -> (b, k)."""
        for name, new in codes.items():
            bank = self.get_buffer(name)
            bank[rows] = new.detach().to(bank.dtype)
