"""CMCL: cross-modal retrieval with codes of several lengths that learn from each other.

As its authors released it (DarrenZZhang/CMCL; TKDE 2024). Concept tokens attend to an instance's tokens; a residual MLP
refines its pooled vector; the sum of both is hashed to several lengths at once and to a long auxiliary code, which the
short ones are decoded to. Each length has likelihoods within and between the modalities and quantization to binary
codes that are renewed once per epoch; vectors and concepts are contrasted.

A model hashes to its k bits; `lengths` are trained beside them. The number of concepts is not in the released numbers.
"""

from typing import Literal, NamedTuple

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.blocks import run_blocks
from math_hash.encoders.features import Features
from math_hash.methods.layers import ResidualMLP
from math_hash.methods.method import Codes, Method, StreamFeatures, other
from math_hash.methods.mith import concept_info_nce
from math_hash.methods.objectives import (
    info_nce,
    pairwise_likelihood,
    quantization,
    shared_label,
    sign,
    squared_error,
    total,
)


class Outputs(NamedTuple):
    """Refined unit vectors (b, d), unit concept vectors (b, c, d), and codes by bank suffix: code and decoded code."""

    refined: Tensor
    concepts: Tensor
    codes: dict[str, Tensor]
    decoded: dict[str, Tensor]


class CMCL(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        lengths: lengths that are trained beside k.
        auxiliary: bits of the auxiliary code.
        concepts: number of concept tokens.
        res_mlp_layers, dropout, activation: of the residual MLP.
        transformer_layers: of the transformers over concept tokens.
        inter, intra, quan, recon: weights of each length's terms.
        auxiliary_weight: factor of the auxiliary code's terms and of the decoding's.
        contrast, concept_contrast: weights of the contrastive terms.
        temperature: of both.
    """

    needs = Needs(tokens=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        lengths: tuple[int, ...] = (16, 32, 64),
        auxiliary: int = 128,
        concepts: int = 32,
        res_mlp_layers: int = 2,
        transformer_layers: int = 2,
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.5,
        inter: float = 5.0,
        intra: float = 0.005,
        quan: float = 1.0,
        recon: float = 0.005,
        auxiliary_weight: float = 20.0,
        contrast: float = 5.0,
        concept_contrast: float = 1.0,
        temperature: float = 0.07,
    ):
        super().__init__()
        self.k_bits = k_bits
        # suffix of the banks' names -> bits; the code that the model gives has none
        self.bits = {"": k_bits} | {f" {bits}": bits for bits in lengths if bits != k_bits} | {" auxiliary": auxiliary}
        self.weights = inter, intra, quan, recon
        self.auxiliary_weight, self.temperature = auxiliary_weight, temperature
        self.contrast, self.concept_contrast = contrast, concept_contrast
        self.mlp = ResidualMLP(width, res_mlp_layers, activation, dropout)
        self.concepts = nn.Parameter(torch.randn(concepts, width) / width**0.5)
        self.query_norm = nn.LayerNorm(width)
        self.attention = nn.ModuleDict({name: ConceptAttention(width, transformer_layers) for name in self.streams})
        self.encode = nn.ModuleList(nn.Linear(width, bits) for bits in self.bits.values())
        self.decode = nn.ModuleList(
            nn.Sequential(nn.Linear(bits, auxiliary), nn.ReLU(), nn.Linear(auxiliary, auxiliary), nn.Tanh())
            for suffix, bits in self.bits.items()
            if suffix != " auxiliary"
        )

    @property
    def banks(self) -> dict[str, int]:
        names = (*self.streams, "binary")
        return {f"{name}{suffix}": bits for suffix, bits in self.bits.items() for name in names}

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        for suffix in self.bits:
            bank[f"binary{suffix}"].copy_(sign(bank[f"image{suffix}"] + bank[f"text{suffix}"]))

    def hash_image(self, image: Features) -> Tensor:
        return torch.tanh(self.encode[0](self._mixed("image", image)[2]))

    def hash_text(self, text: Features) -> Tensor:
        return torch.tanh(self.encode[0](self._mixed("text", text)[2]))

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {name: self._outputs(name, stream) for name, stream in features.items()}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {f"{name}{suffix}": code for name, out in outputs.items() for suffix, code in out.codes.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        inter, intra, quan, recon = self.weights
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        terms = {}
        for suffix in self.bits:
            factor = self.auxiliary_weight if suffix == " auxiliary" else 1.0
            codes = {name: output.codes[suffix] for name, output in outputs.items()}
            near = {m: pairwise_likelihood(bank[f"{m}{suffix}"], codes[m], S) for m in codes}
            far = {m: pairwise_likelihood(bank[f"{other(m)}{suffix}"], codes[m], S) for m in codes}
            B = bank[f"binary{suffix}"][rows]
            terms[f"intra{suffix}"] = factor * intra * total(near.values())
            terms[f"inter{suffix}"] = factor * inter * total(far.values())
            terms[f"quan{suffix}"] = factor * quan * total(quantization(h, B) for h in codes.values())
            if suffix != " auxiliary":
                long = bank["binary auxiliary"][rows]
                errors = [squared_error(output.decoded[suffix], long) for output in outputs.values()]
                terms[f"recon{suffix}"] = self.auxiliary_weight * recon * total(errors)
        image, text = outputs["image"], outputs["text"]
        return terms | {
            "contrast": self.contrast * info_nce(image.refined, text.refined, self.temperature),
            "concepts": self.concept_contrast * concept_info_nce(image.concepts, text.concepts, self.temperature),
        }

    def _mixed(self, name: str, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """The refined vector (b, d), the concept tokens (b, c, d), and the sum of the first and the second's mean."""
        refined = self.mlp(features.pooled)
        queries = self.query_norm(self.concepts).expand(len(refined), -1, -1)
        tokens = self.attention[name](queries, features)
        return refined, tokens, refined + tokens.mean(dim=1)

    def _outputs(self, name: str, features: Features) -> Outputs:
        refined, tokens, mixed = self._mixed(name, features)
        codes = {suffix: torch.tanh(layer(mixed)) for suffix, layer in zip(self.bits, self.encode, strict=True)}
        decoded = {suffix: layer(codes[suffix]) for suffix, layer in zip(self.bits, self.decode, strict=False)}
        return Outputs(F.normalize(refined, dim=-1), F.normalize(tokens, dim=-1), codes, decoded)


class ConceptAttention(nn.Module):
    """Attention of concept tokens to an instance's tokens, then a transformer on the concept tokens."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        heads = max(width // 64, 1)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.transformer = Transformer(width, layers, heads=heads, act_layer=QuickGELU)

    def forward(self, queries: Tensor, features: Features) -> Tensor:
        """Queries (b, c, d) -> (b, c, d)."""
        tokens, content = self.norm(features.tokens), features.content_mask()
        padding = None if content is None else ~content
        attended = self.attention(queries, tokens, tokens, key_padding_mask=padding, need_weights=False)[0]
        return run_blocks(self.transformer, attended)[0]
