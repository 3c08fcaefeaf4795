"""The text and label network of MLSPH and MESDCH: average pooling at five scales, and 1 x 1 convolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (kernel, stride) of each pooling: over text vectors in MLSPH, over label rows in MESDCH
TEXT_POOLS = ((50, 50), (30, 30), (15, 15), (10, 10), (5, 5))
LABEL_POOLS = ((10, 10), (6, 5), (3, 3), (2, 2), (1, 1))


class MultiScaleHead(nn.Module):
    """A vector beside five pooled and stretched copies of it, two layers with ReLU and batch norm, linear, tanh.

    The released convolutions see one place each, so they are linear maps here. In training, the batch norms see the
    rows of one process.

    Args:
        length: of the vectors.
        k_bits: k.
        pools: (kernel, stride) of each pooling; kernels longer than the vector are cut to it.
        widths: of the two layers.
    """

    def __init__(
        self, length: int, k_bits: int, pools: tuple[tuple[int, int], ...], widths: tuple[int, int] = (4096, 512)
    ):
        super().__init__()
        self.pools = [(min(kernel, length), stride) for kernel, stride in pools]
        self.scales = nn.Parameter(torch.normal(0.0, 0.01, (len(pools),)))
        self.shifts = nn.Parameter(torch.normal(0.0, 0.01, (len(pools),)))
        first, second = widths
        self.layers = nn.Sequential(
            nn.Linear((1 + len(pools)) * length, first), nn.ReLU(), nn.BatchNorm1d(first),
            nn.Linear(first, second), nn.ReLU(), nn.BatchNorm1d(second), nn.Linear(second, k_bits), nn.Tanh(),
        )  # fmt: skip

    def forward(self, vectors: Tensor) -> Tensor:
        """(b, length) -> codes (b, k)."""
        rows = vectors[:, None]  # (b, 1, length)
        copies = [rows]
        for (kernel, stride), scale, shift in zip(self.pools, self.scales, self.shifts, strict=True):
            pooled = torch.relu(scale * F.avg_pool1d(rows, kernel, stride) + shift)
            copies.append(F.interpolate(pooled, size=rows.shape[2], mode="linear", align_corners=True))
        return self.layers(torch.cat(copies, dim=1).flatten(1))
