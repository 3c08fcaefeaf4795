"""Layers that several methods share."""

from math import log, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.encoders.features import Features
from math_hash.errors import InputError


def hash_head(width: int, k_bits: int, hidden: int, dropout: float = 0.0) -> nn.Sequential:
    """From a vector (b, width) to codes (b, k) in (-1, 1).

    With a hidden layer: layer norm, so that vectors may have any scale, linear, ReLU, dropout, linear, tanh. With
    `hidden` 0, as in the releases on CLIP's pooled vectors: linear, dropout, tanh.

    Raises:
        InputError: `hidden` is negative, or the dropout is outside [0, 1).
    """
    if not 0 <= dropout < 1:
        raise InputError(f"`dropout`: {dropout} is outside [0, 1)")
    if hidden < 0:
        raise InputError(f"option hidden: {hidden} is below 0")
    drop = [nn.Dropout(dropout)] if dropout else []
    if not hidden:
        return nn.Sequential(nn.Linear(width, k_bits), *drop, nn.Tanh())
    hidden_layer = nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU()
    return nn.Sequential(*hidden_layer, *drop, nn.Linear(hidden, k_bits), nn.Tanh())


def epoch_generator(epoch: int) -> torch.Generator:
    """A source of random draws for objectives: the same in all processes, and again when an epoch is repeated."""
    return torch.Generator().manual_seed(epoch)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics may be those of a larger batch; a batch of one row takes the running ones."""

    def forward(self, input: Tensor, batch: Tensor | None = None) -> Tensor:
        """(b, d), of which `batch` (n, d) holds the rows of all processes -> (b, d)."""
        batch = input if batch is None else batch
        if not self.training or len(batch) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        super().forward(batch.detach())  # renews the running statistics
        variance, mean = torch.var_mean(batch, dim=0, unbiased=False)
        return (input - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class ResidualMLP(nn.Module):
    """Residual blocks x + W2 drop(act(W1 LN(x))), 4 d wide inside.

    Raises:
        InputError: the number of layers is negative, or the dropout is outside [0, 1).
    """

    def __init__(self, width: int, layers: int, activation: str, dropout: float):
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"`dropout`: {dropout} is outside [0, 1)")
        if layers < 0:
            raise InputError(f"`res_mlp_layers`: {layers} is below 0")
        act = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 4 * width),
                act(),
                nn.Dropout(dropout),
                nn.Linear(4 * width, width),
            )
            for _ in range(layers)
        )

    def forward(self, pooled: Tensor) -> Any:
        """(b, d) -> (b, d)."""
        for block in self.blocks:
            pooled = pooled + block(pooled)
        return pooled


class GlobalHead(ResidualMLP):
    """A residual MLP; a bias-free linear map to k bits; tanh."""

    def __init__(self, width: int, k_bits: int, layers: int, activation: str, dropout: float):
        super().__init__(width, layers, activation, dropout)
        self.projection = nn.Linear(width, k_bits, bias=False)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(b, d) -> the refined vector (b, d) and h_global (b, k)."""
        refined = super().forward(pooled)
        return refined, torch.tanh(self.projection(refined))


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5) divided by sqrt(d): (length, d)."""
    place = torch.arange(length, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * (-log(10000.0) / width))
    table = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=-1).reshape(length, -1)[:, :width]
    return (table / sqrt(width)).to(like.dtype)


def fuse_with_batch(label: Features, image: Features, text: Features) -> Tensor:
    """Label-modality fusion over the batch: lab + A(lab, img) + A(lab, txt), A(q, v) = softmax(q v^T / sqrt(d)) v.

    A label's vector attends to the pooled vectors of all images and texts of the batch (`Needs(batch=True)`). (b, d).
    """
    assert image.batch is not None
    assert text.batch is not None
    return label.pooled + (attend(label.pooled, image.batch) + attend(label.pooled, text.batch))


def fuse_with_tokens(label: Features, image: Features, text: Features) -> Tensor:
    """Label-modality fusion per instance: a label attends to its own image's and text's unpadded tokens; (b, d)."""
    assert image.tokens is not None
    assert text.tokens is not None
    query = label.pooled[:, None]  # (b, 1, d)
    unpadded = None if text.padding is None else ~text.padding[:, None]  # (b, 1, length)
    return label.pooled + (attend(query, image.tokens) + attend(query, text.tokens, unpadded))[:, 0]


def attend(query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """A(q, v) = softmax(q v^T / sqrt(d)) v; `mask` is True where a query may attend."""
    return F.scaled_dot_product_attention(query, values, values, attn_mask=mask)
