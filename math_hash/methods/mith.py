"""MITH: multi-granularity interactive transformer hashing.

Liu, Wu, Lu, Wang, Nie and Guo, "Multi-Granularity Interactive Transformer Hashing for Cross-modal Retrieval", ACM MM
2023. A global head hashes the pooled vectors. Each token's own global code selects the concepts (the bits) that it
refers to; the tokens of each concept are averaged, a transformer mixes the k concept tokens, and one linear function
per bit hashes them. The objective has likelihoods within (token level) and between the modalities, quantization,
contrastive alignment of vectors and of concept tokens, and distillation between the two heads in both directions.

It is the predecessor of MATH, with which it shares the global head and the positions. Heads, terms and weights are
those of the release.
"""

from typing import Literal, NamedTuple

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.blocks import run_blocks
from math_hash.encoders.features import Features
from math_hash.methods.layers import GlobalHead, positions
from math_hash.methods.method import Codes, Method, StreamFeatures, other
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
    """One modality's refined vectors (b, d), codes of both heads (b, k), and k unit concept vectors (b, k, d)."""

    refined: Tensor
    h_global: Tensor
    h_local: Tensor
    concepts: Tensor

    @property
    def code(self) -> Tensor:
        """Continuous code, (b, k)."""
        return 0.5 * self.h_global + 0.5 * self.h_local


class MITH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        res_mlp_layers, dropout, activation: of the global head.
        transformer_layers: of the transformers over concept tokens.
        top_concepts: how many concepts each token refers to.
        intra, inter, quan, contrast, concept_contrast, distill, teacher: weights of the terms; `concept_contrast` is
            relative to `contrast`; `teacher` is the weight of distillation into the global head relative to that into
            the local one.
        global_share: share of the global codes, beside the local ones, in the sum whose sign is B.
        temperature: of both contrastive terms.
    """

    needs = Needs(tokens=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        res_mlp_layers: int = 2,
        transformer_layers: int = 2,
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.0,
        top_concepts: int = 8,
        intra: float = 1.0,
        inter: float = 10.0,
        quan: float = 8.0,
        contrast: float = 50.0,
        concept_contrast: float = 0.01,
        distill: float = 1.0,
        teacher: float = 0.1,
        global_share: float = 0.99,
        temperature: float = 0.07,
    ):
        super().__init__()
        self.k_bits = k_bits
        self.weights = (intra, inter, quan, contrast, concept_contrast, distill, teacher)
        self.global_share, self.temperature = global_share, temperature
        self.global_head = GlobalHead(width, k_bits, res_mlp_layers, activation, dropout)
        self.local_heads = nn.ModuleDict(
            {name: ConceptHead(width, k_bits, transformer_layers, top_concepts) for name in self.streams}
        )

    @property
    def banks(self) -> dict[str, int]:
        return super().banks | {f"{name} tokens": self.k_bits for name in self.streams}

    def hash_image(self, image: Features) -> Tensor:
        return self._stream("image", image).code

    def hash_text(self, text: Features) -> Tensor:
        return self._stream("text", text).code

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {name: self._stream(name, stream) for name, stream in features.items()}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: stream.h_global for name, stream in outputs.items()} | {
            f"{name} tokens": stream.h_local for name, stream in outputs.items()
        }

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        intra, inter, quan, contrast, concept_contrast, distill, teacher = self.weights
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        image, text = outputs["image"], outputs["text"]
        share, likelihood = self.global_share, pairwise_likelihood
        B = sign(total(share * m.h_global.detach() + (1 - share) * m.h_local.detach() for m in outputs.values()))
        return {
            "intra": intra * total(likelihood(bank[f"{m} tokens"], outputs[m].h_local, S) for m in self.streams),
            "inter": inter * total(likelihood(bank[other(m)], outputs[m].h_global, S) for m in self.streams),
            "quan": quan * total(quantization(m.code, B) for m in outputs.values()),
            "contrast": contrast * info_nce(image.refined, text.refined, self.temperature),
            "concepts": contrast * concept_contrast * concept_info_nce(image.concepts, text.concepts, self.temperature),
            "distill": distill
            * total(
                squared_error(m.h_local, m.h_global.detach()) + teacher * squared_error(m.h_global, m.h_local.detach())
                for m in outputs.values()
            ),
        }

    def _stream(self, name: str, features: Features) -> Outputs:
        refined, h_global = self.global_head(features.pooled)
        with torch.no_grad():
            spoken = self.global_head(features.tokens)[1]  # (b, length, k)
        h_local, concepts = self.local_heads[name](features.tokens, spoken, features.content_mask())
        return Outputs(refined, h_global, h_local, concepts)


class ConceptHead(nn.Module):
    """Averages the tokens of each concept; a transformer on the k concept tokens; one linear function per bit; tanh."""

    def __init__(self, width: int, k_bits: int, layers: int, top_concepts: int):
        super().__init__()
        self.top_concepts = min(top_concepts, k_bits)
        self.transformer = Transformer(width, layers, heads=max(width // 64, 1), act_layer=QuickGELU)
        self.weight = nn.Parameter(torch.randn(k_bits, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(k_bits))
        self.contrast = nn.Linear(width, width)

    def forward(self, tokens: Tensor, spoken: Tensor, content: Tensor | None) -> tuple[Tensor, Tensor]:
        """h_local (b, k) and the unit concept vectors (b, k, d) for the contrast.

        Args:
            tokens: (b, length, d).
            spoken: (b, length, k), each token's own code.
            content: bool (b, length), True at the tokens that count; None: all.
        """
        concepts = concept_weights(spoken, content, self.top_concepts) @ tokens
        states, _ = run_blocks(self.transformer, concepts + positions(concepts.shape[1], concepts.shape[2], concepts))
        h_local = torch.tanh((states * self.weight).sum(dim=-1) + self.bias)
        return h_local, F.normalize(self.contrast(states), dim=-1)


def concept_info_nce(concepts: Tensor, others: Tensor, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE among a pair's k concepts, unit vectors (b, k, d) each; mean over pairs and concepts."""
    logits = concepts @ others.transpose(1, 2) / temperature  # (b, k, k)
    own = logits.diagonal(dim1=1, dim2=2)
    return (0.5 * (logits.logsumexp(dim=2) + logits.logsumexp(dim=1)) - own).mean()


def concept_weights(spoken: Tensor, content: Tensor | None, top_concepts: int) -> Tensor:
    """The weight of each token for each concept, (b, k, length).

    A softmax over the tokens that count and whose positive scores among the `top_concepts` greatest (or equal to the
    last of them) include this concept; 0 for a concept without tokens.
    """
    least = spoken.topk(top_concepts, dim=-1).values[..., -1:]
    chosen = (spoken >= least) & (spoken > 0)
    if content is not None:
        chosen &= content[..., None]
    weights = F.softmax(spoken.float().masked_fill(~chosen, float("-inf")), dim=1)
    return weights.masked_fill(~chosen, 0).to(spoken.dtype).transpose(1, 2)
