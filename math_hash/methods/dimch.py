"""DIMCH: hashing with sets of tokens per instance, trained by triplets that are weighted by NDCG gains.

As its authors released it (kalenforn/clip-based-cross-modal-hash). A convolution over an instance's tokens gives a set
of s tokens; two linear layers hash each; the code is tanh of their mean. Triplets, weighted by the difference of the
gains 2^(shared labels) - 1, are taken on a smooth Chamfer distance of sets and on the cosine of codes; the
distributions of both modalities are matched, tokens kept apart, and codes quantized. The defaults are its
configuration's, except that its set size is that of the released numbers' README, 8.

Tokens beyond `length` are not seen, and missing ones are zero: the convolution takes the tokens as channels. Its
diversity is over all tokens of a batch but divided by the pairs of one set, as released (`diversity_over="batch"`);
"set" keeps to the tokens of each instance.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.method import Codes, Method, StreamFeatures
from math_hash.methods.objectives import cosine, distances, mean_where, sign
from math_hash.methods.recompute import recomputed


class Outputs(NamedTuple):
    """Hashed tokens (b, s, k) and the code (b, k)."""

    tokens: Tensor
    code: Tensor


class DIMCH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        set_size: s, tokens per instance.
        codes: "tanh", or "softmax" for a choice of two per bit.
        token_triplet, hash_triplet, mmd, diversity, quan: weights of the terms, the triplets' and `quan` halved.
        margin: of the triplets.
        temperature: of the smooth Chamfer distance.
        gamma: of the kernel exp(-gamma d) between unit hashed tokens at distance d.
        spread: of the diversity's exp(-spread d^2).
        diversity_over: tokens that are kept apart.
        length: tokens that are seen, of an image and of a text.
        dropout: between the two linear layers.
    """

    needs = Needs(tokens=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        set_size: int = 8,
        codes: Literal["tanh", "softmax"] = "tanh",
        token_triplet: float = 50.0,
        hash_triplet: float = 50.0,
        mmd: float = 1.0,
        diversity: float = 0.3,
        quan: float = 1.0,
        margin: float = 0.3,
        temperature: float = 16.0,
        gamma: float = 0.5,
        spread: float = 20.0,
        diversity_over: Literal["batch", "set"] = "batch",
        length: tuple[int, int] = (50, 32),
        dropout: float = 0.3,
    ):
        super().__init__()
        self.k_bits, self.softmax, self.diversity_over = k_bits, codes == "softmax", diversity_over
        self.weights = token_triplet / 2, hash_triplet / 2, mmd, diversity, quan / 2
        self.margin, self.temperature, self.gamma, self.spread = margin, temperature, gamma, spread
        outputs = k_bits * (2 if self.softmax else 1)
        self.heads = nn.ModuleDict(
            {
                name: TokenSetHead(width, outputs, set_size, tokens, dropout)
                for name, tokens in zip(self.streams, length, strict=True)
            }
        )

    def hash_image(self, image: Features) -> Tensor:
        return self._code(self._outputs("image", image).code)

    def hash_text(self, text: Features) -> Tensor:
        return self._code(self._outputs("text", text).code)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> dict[str, Outputs]:
        return {name: self._outputs(name, stream) for name, stream in features.items()}

    def bank_codes(self, outputs: dict[str, Outputs]) -> Codes:
        return {name: self._code(output.code) for name, output in outputs.items()}

    def loss_terms(
        self, outputs: dict[str, Outputs], bank: Codes, bank_labels: Tensor, rows: Tensor
    ) -> dict[str, Tensor]:
        tokens, hashes, mmd, diversity, quan = self.weights
        labels = bank_labels[rows].float()
        image, text = outputs["image"], outputs["text"]
        sets = torch.relu(1 - smooth_chamfer(image.tokens, text.tokens, self.temperature))
        codes = torch.relu(1 - cosine(image.code, text.code))
        terms = {
            "image tokens": tokens * gain_triplets(sets, labels, self.margin),
            "text tokens": tokens * gain_triplets(sets.T, labels, self.margin),
            "mmd": mmd * self._discrepancy(*(F.normalize(m.tokens, dim=-1).flatten(0, 1) for m in (image, text))),
            "diversity": diversity * (self._closeness(image.tokens) + self._closeness(text.tokens)),
            "image hash": hashes * gain_triplets(codes, labels, self.margin),
            "text hash": hashes * gain_triplets(codes.T, labels, self.margin),
        }
        return terms | {f"{name} quan": quan * self._quantization(out.code) for name, out in outputs.items()}

    def _outputs(self, name: str, features: Features) -> Outputs:
        tokens = self.heads[name](features)
        mean = tokens.mean(dim=1)
        return Outputs(tokens, mean.unflatten(-1, (-1, 2)).softmax(-1).flatten(1) if self.softmax else torch.tanh(mean))

    def _code(self, code: Tensor) -> Tensor:
        if not self.softmax:
            return code
        pairs = code.unflatten(-1, (-1, 2))
        return pairs[..., 1] - pairs[..., 0]

    def _discrepancy(self, one: Tensor, two: Tensor) -> Tensor:
        kernels = [torch.exp(-self.gamma * distances(a, b)).mean() for a, b in ((one, one), (one, two), (two, two))]
        return kernels[0] - 2 * kernels[1] + kernels[2]

    def _closeness(self, tokens: Tensor) -> Tensor:
        """Sum over pairs of unit tokens of exp(-spread d^2), over the number of pairs of one set."""
        s, tokens = tokens.shape[1], F.normalize(tokens, dim=-1)
        groups = tokens.flatten(0, 1)[None] if self.diversity_over == "batch" else tokens
        pairs = torch.triu_indices(groups.shape[1], groups.shape[1], 1)
        squared = distances(groups, groups).square()[:, pairs[0], pairs[1]]
        return torch.exp(-self.spread * squared).sum() / (s * (s - 1) / 2) / len(groups)

    def _quantization(self, code: Tensor) -> Tensor:
        if self.softmax:
            return 1 - (2 * code - 1).square().mean()
        return (code - sign(code.detach())).square().mean()


class TokenSetHead(nn.Module):
    """Convolution from tokens, as channels, to s tokens; ReLU; two linear layers with ReLU and dropout: (b, s, k)."""

    def __init__(self, width: int, outputs: int, set_size: int, length: int, dropout: float):
        super().__init__()
        self.length = length
        self.tokens = nn.Conv1d(length, set_size, 3, padding=1)
        first, last = nn.Linear(width, width // 2), nn.Linear(width // 2, outputs)
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), last)
        for bias in (self.tokens.bias, first.bias, last.bias):  # tokens of any scale decide the first codes
            assert bias is not None
            nn.init.zeros_(bias)

    def forward(self, features: Features) -> Tensor:
        tokens, content = features.tokens, features.content_mask()
        assert tokens is not None
        if content is not None:
            tokens = tokens * content[..., None]
        tokens = F.pad(tokens, (0, 0, 0, max(0, self.length - tokens.shape[1])))[:, : self.length]
        return self.layers(torch.relu(self.tokens(tokens)))


def smooth_chamfer(sets: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Smooth Chamfer similarity of the unit tokens of two sets, (b, s, k) each: (b, b)."""
    cosines = torch.einsum("isk,jtk->ijst", F.normalize(sets, dim=-1), F.normalize(others, dim=-1))
    forth = (temperature * cosines).logsumexp(dim=3).mean(dim=2) / temperature
    back = (temperature * cosines).logsumexp(dim=2).mean(dim=2) / temperature
    return 0.5 * (forth + back)


@recomputed
def gain_triplets(D: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean of the positive ones among (g_ap - g_an) (D_ap - D_an + m) over triplets, p similar and n not.

    The gain g_ij = 2^(shared labels) - 1 is divided by the row's ideal DCG over the batch.

    Args:
        D: distances (b, b).
        labels: 0/1 (b, c).
    """
    shared = labels @ labels.T
    gains = 2**shared - 1
    ideal = gains.sort(dim=1, descending=True).values
    rank = torch.arange(len(D), dtype=D.dtype, device=D.device)
    g = gains / (ideal / torch.log2(rank + 2)).sum(dim=1, keepdim=True).clamp(min=1e-12)
    losses = torch.relu((g[:, :, None] - g[:, None]) * (D[:, :, None] - D[:, None] + margin))
    return mean_where(losses, (shared > 0)[:, :, None] & (shared == 0)[:, None] & (losses > 0))
