"""The memory of every training row's latest codes."""

import torch
from torch import Tensor, nn


class CodeBank(nn.Module):
    """One bank a stream, float32 (n_train, k), drawn from a normal distribution at the start.

    Args:
        streams: names of the banks.
        labels: 0/1 (n_train, c), the rows' labels.
        k_bits: k.
        seed: of the first codes.
    """

    def __init__(self, streams: tuple[str, ...], labels: Tensor, k_bits: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.streams = streams
        self.register_buffer("labels", labels, persistent=False)
        for stream in streams:
            self.register_buffer(stream, torch.randn(len(labels), k_bits, generator=generator))

    @property
    def codes(self) -> dict[str, Tensor]:
        """Stream -> its bank."""
        return {stream: getattr(self, stream) for stream in self.streams}

    @torch.no_grad()
    def write(self, rows: Tensor, codes: dict[str, Tensor]) -> None:
        """Replace the codes of some rows, int64 (b,), by new ones, stream -> (b, k), in the banks of these streams."""
        for stream, new in codes.items():
            getattr(self, stream)[rows] = new.detach().float()
