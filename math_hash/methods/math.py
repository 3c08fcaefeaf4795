"""MATH: multi-label augmentation transformer hashing.

An image, a text and the names of their labels (a third text) are encoded by one CLIP. The labels' feature is fused
with the image's and the text's by attention; a global head, shared by the three streams, hashes the pooled vectors;
a local head a stream hashes the tokens; the code is the sign of their mean. Encoding needs no label.

The formulas are those of the public release. `fusion="batch"` and `mask_padding=False` are the release's behaviour;
`mask_padding=True` (the default) leaves a text's padding and end marker out of the local heads, and `fusion="token"`
lets a label attend to its own instance's tokens instead of the whole batch.
"""

from dataclasses import replace
from functools import partial
from math import log, sqrt
from typing import NamedTuple

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from math_hash.data import Needs
from math_hash.encoders.blocks import is_taken_in_parts, padding_mask, parts_by_length, run_blocks
from math_hash.encoders.features import Features
from math_hash.methods.method import Codes, Gather, Method, StreamFeatures
from math_hash.methods.objectives import info_nce, pairwise_likelihood, quantization, shared_label, sign, squared_error


class Stream(NamedTuple):
    """One stream's outputs for b rows: refined (b, d), h_global and h_local (b, k) in (-1, 1)."""

    refined: Tensor
    h_global: Tensor
    h_local: Tensor

    @property
    def code(self) -> Tensor:
        """Continuous code, (b, k)."""
        return 0.5 * self.h_global + 0.5 * self.h_local


class MATH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        res_mlp_layers, dropout, activation: of the global head.
        transformer_layers: of the local heads.
        fusion: "batch" or "token", what the label's feature attends to.
        mask_padding: leave padding and end markers out of the local heads.
        hyper_intra, hyper_inter, hyper_MSE, hyper_quan, hyper_contrast: weights of the objective's terms.
    """

    streams = ("image", "text", "label")
    turns = (streams,)
    needs = Needs(tokens=True, label_text=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        res_mlp_layers: int = 2,
        transformer_layers: int = 2,
        activation: str = "gelu",
        dropout: float = 0.0,
        fusion: str = "batch",
        mask_padding: bool = True,
        hyper_intra: float = 4,
        hyper_inter: float = 13,
        hyper_MSE: float = 5,
        hyper_quan: float = 7,
        hyper_contrast: float = 57,
    ):
        super().__init__()
        self.k_bits, self.fusion, self.mask_padding = k_bits, fusion, mask_padding
        if not mask_padding:
            self.needs = replace(self.needs, padding=True)
        self.weights = (hyper_intra, hyper_inter, hyper_MSE, hyper_quan, hyper_contrast)
        self.global_head = GlobalHead(width, k_bits, res_mlp_layers, activation, dropout)
        self.local_heads = nn.ModuleDict({name: LocalHead(width, k_bits, transformer_layers) for name in self.streams})

    def hash_image(self, image: Features) -> Tensor:
        return self._stream("image", image, image.pooled).code

    def hash_text(self, text: Features) -> Tensor:
        return self._stream("text", text, text.pooled).code

    def forward(self, features: StreamFeatures, labels: Tensor, gather: Gather) -> dict[str, Stream]:
        image, text, label = (features[name] for name in self.streams)
        fused = fuse_label(label, image, text, gather if self.fusion == "batch" else None)
        local = {
            "image": self._stream("image", image, image.pooled),
            "text": self._stream("text", text, text.pooled),
            "label": self._stream("label", label, fused),
        }
        return {name: Stream(*map(gather, stream)) for name, stream in local.items()}

    def bank_codes(self, outputs: dict[str, Stream]) -> Codes:
        return {name: stream.h_global for name, stream in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Stream], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        alpha, beta, delta, gamma, lam = self.weights
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        # the (n, b) matrices of nine pairs are made once more for the gradient rather than kept
        likelihood = partial(checkpoint, pairwise_likelihood, use_reentrant=False, preserve_rng_state=False)
        nll = {(a, b): likelihood(bank[a], outputs[b].h_global, S) for a in self.streams for b in self.streams}
        B = sign(sum(stream.h_global.detach() for stream in outputs.values()))
        image, text, label = (outputs[name] for name in self.streams)
        return {
            "intra": alpha * sum(nll[m, m] for m in self.streams),
            "inter": beta * sum(term for (a, b), term in nll.items() if a != b),
            "MSE": delta * sum(squared_error(m.h_local, m.h_global.detach()) for m in outputs.values()),
            "quan": gamma * sum(quantization(m.code, B) for m in outputs.values()),
            "contrast": lam
            * (
                info_nce(image.refined, label.refined)
                + info_nce(text.refined, label.refined)
                + info_nce(image.refined, text.refined)
            ),
        }

    def _stream(self, name: str, features: Features, pooled: Tensor) -> Stream:
        refined, h_global = self.global_head(pooled)
        content = features.content_mask() if self.mask_padding else None
        return Stream(refined, h_global, self.local_heads[name](features.tokens, content))


def fuse_label(label: Features, image: Features, text: Features, gather: Gather | None) -> Tensor:
    """Label-modality fusion: lab + A(lab, img) + A(lab, txt), A(q, v) = softmax(q v^T / sqrt(d)) v; (b, d).

    With `gather`, a label attends to the pooled vectors of the whole batch (the rows of all processes). With None, it
    attends to its own image's tokens and its own text's unpadded tokens.
    """
    if gather is not None:
        return label.pooled + sum(_attend(label.pooled, gather(other.pooled)) for other in (image, text))
    query = label.pooled[:, None]  # (b, 1, d)
    unpadded = None if text.padding is None else ~text.padding[:, None]  # (b, 1, length)
    return label.pooled + (_attend(query, image.tokens) + _attend(query, text.tokens, unpadded))[:, 0]


def _attend(query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(query, values, values, attn_mask=mask)


class GlobalHead(nn.Module):
    """Residual MLP blocks x + W2 drop(act(W1 LN(x))), 4 d wide inside; a bias-free linear map to k bits; tanh."""

    def __init__(self, width: int, k_bits: int, layers: int, activation: str, dropout: float):
        super().__init__()
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
        self.projection = nn.Linear(width, k_bits, bias=False)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(b, d) -> the refined vector (b, d) and h_global (b, k)."""
        for block in self.blocks:
            pooled = pooled + block(pooled)
        return pooled, torch.tanh(self.projection(pooled))


class LocalHead(nn.Module):
    """Tokens with positions through transformer blocks; k linear functions of each token, averaged over tokens; tanh.

    The average of a linear map is the linear map of the average, so one product on the mean token gives all bits.
    """

    def __init__(self, width: int, k_bits: int, layers: int):
        super().__init__()
        self.transformer = Transformer(width, layers, heads=max(width // 64, 1), act_layer=QuickGELU)
        self.projection = nn.Linear(width, k_bits)

    def forward(self, tokens: Tensor, content: Tensor | None = None) -> Tensor:
        """Tokens (b, length, d), `content` bool (b, length) True at the tokens that count (None: all): (b, k)."""
        if content is not None and is_taken_in_parts(tokens):
            rows, longest = parts_by_length(content.sum(dim=1))
            parts = [self._hash(tokens[r, :n], content[r, :n]) for r, n in zip(rows, longest, strict=True)]
            return torch.cat(parts)[torch.cat(rows).argsort()]
        return self._hash(tokens, content)

    def _hash(self, tokens: Tensor, content: Tensor | None) -> Tensor:
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens)
        if content is None:
            return torch.tanh(self.projection(run_blocks(self.transformer, tokens)[0].mean(dim=1)))
        states, _ = run_blocks(self.transformer, tokens, padding_mask(~content, tokens.dtype))
        weight = content.unsqueeze(-1).to(states.dtype)
        return torch.tanh(self.projection((states * weight).sum(dim=1) / weight.sum(dim=1)))


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5) divided by sqrt(d): (length, d)."""
    place = torch.arange(length, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * (-log(10000.0) / width))
    table = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=-1).reshape(length, -1)[:, :width]
    return (table / sqrt(width)).to(like.dtype)
