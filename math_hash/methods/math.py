"""MATH: multi-label augmentation transformer hashing.

An image, a text and the names of their labels (a third text) are encoded by one CLIP. The labels' feature is fused
with the image's and the text's by attention; a global head, shared by the three streams, hashes the pooled vectors;
one local head per stream hashes the tokens; the code is the sign of their mean. Encoding needs no label.

The formulas are those of the public release. `fusion="batch"` and `mask_padding=False` are the release's behavior;
`mask_padding=True` (the default) excludes a text's padding and end marker from the local heads, and `fusion="token"`
lets a label attend to its own instance's tokens instead of the whole batch.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn

from math_hash.data import Needs
from math_hash.encoders.blocks import in_chunks_by_length, padding_mask, run_blocks
from math_hash.encoders.features import Features
from math_hash.methods.layers import GlobalHead, fuse_with_batch, fuse_with_tokens, positions
from math_hash.methods.method import Codes, Method, StreamFeatures
from math_hash.methods.objectives import (
    info_nce,
    pairwise_likelihood,
    quantization,
    shared_label,
    sign,
    squared_error,
    total,
)


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
        mask_padding: exclude padding and end markers from the local heads.
        hyper_intra, hyper_inter, hyper_MSE, hyper_quan, hyper_contrast: weights of the objective's terms.
        temperature: of the contrastive alignment.
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
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.0,
        fusion: Literal["batch", "token"] = "batch",
        mask_padding: bool = True,
        hyper_intra: float = 4,
        hyper_inter: float = 13,
        hyper_MSE: float = 5,
        hyper_quan: float = 7,
        hyper_contrast: float = 57,
        temperature: float = 0.07,
    ):
        super().__init__()
        self.k_bits, self.fusion, self.mask_padding = k_bits, fusion, mask_padding
        self.temperature = temperature
        self.needs = replace(self.needs, padding=not mask_padding, batch=fusion == "batch")
        self.weights = (hyper_intra, hyper_inter, hyper_MSE, hyper_quan, hyper_contrast)
        self.global_head = GlobalHead(width, k_bits, res_mlp_layers, activation, dropout)
        self.local_heads = nn.ModuleDict({name: LocalHead(width, k_bits, transformer_layers) for name in self.streams})

    def hash_image(self, image: Features) -> Tensor:
        return self._stream("image", image, image.pooled).code

    def hash_text(self, text: Features) -> Tensor:
        return self._stream("text", text, text.pooled).code

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Stream]:
        image, text, label = (features[name] for name in self.streams)
        fuse = fuse_with_batch if self.fusion == "batch" else fuse_with_tokens
        fused = fuse(label, image, text)
        return {
            "image": self._stream("image", image, image.pooled),
            "text": self._stream("text", text, text.pooled),
            "label": self._stream("label", label, fused),
        }

    def bank_codes(self, outputs: dict[str, Stream]) -> Codes:
        return {name: stream.h_global for name, stream in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Stream], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        alpha, beta, delta, gamma, lam = self.weights
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        nll = {(a, b): pairwise_likelihood(bank[a], outputs[b].h_global, S) for a in self.streams for b in self.streams}
        B = sign(total(stream.h_global.detach() for stream in outputs.values()))
        image, text, label = (outputs[name] for name in self.streams)
        return {
            "intra": alpha * total(nll[m, m] for m in self.streams),
            "inter": beta * total(term for (a, b), term in nll.items() if a != b),
            "MSE": delta * total(squared_error(m.h_local, m.h_global.detach()) for m in outputs.values()),
            "quan": gamma * total(quantization(m.code, B) for m in outputs.values()),
            "contrast": lam
            * (
                info_nce(image.refined, label.refined, self.temperature)
                + info_nce(text.refined, label.refined, self.temperature)
                + info_nce(image.refined, text.refined, self.temperature)
            ),
        }

    def _stream(self, name: str, features: Features, pooled: Tensor) -> Stream:
        refined, h_global = self.global_head(pooled)
        content = features.content_mask() if self.mask_padding else None
        return Stream(refined, h_global, self.local_heads[name](features.tokens, content))


class LocalHead(nn.Module):
    """Transformer blocks on tokens with positions; k linear functions of each token, averaged over tokens; tanh.

    The average of a linear map is the linear map of the average, so one product on the mean token gives all bits.
    """

    def __init__(self, width: int, k_bits: int, layers: int):
        super().__init__()
        self.transformer = Transformer(width, layers, heads=max(width // 64, 1), act_layer=QuickGELU)
        self.projection = nn.Linear(width, k_bits)

    def forward(self, tokens: Tensor, content: Tensor | None = None) -> Tensor:
        """Tokens (b, length, d), `content` bool (b, length) True at the tokens that count (None: all): (b, k)."""
        if content is None:
            return self._hash(tokens, None)
        return in_chunks_by_length(self._hash, content.sum(dim=1), tokens, content)

    def _hash(self, tokens: Tensor, content: Tensor | None) -> Tensor:
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens)
        if content is None:
            return torch.tanh(self.projection(run_blocks(self.transformer, tokens)[0].mean(dim=1)))
        states, _ = run_blocks(self.transformer, tokens, padding_mask(~content, tokens.dtype))
        weight = content.unsqueeze(-1).to(states.dtype)
        return torch.tanh(self.projection((states * weight).sum(dim=1) / weight.sum(dim=1)))
