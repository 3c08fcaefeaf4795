"""TwDH: two-step discrete hashing.

As its authors released it: each class has a random center, a long code; the target of a row is the sign of the mean of
its labels' centers. The long code's bits are two-way softmax choices, trained by binary cross-entropy to the target;
the code that is searched is short, a softmax of a fixed linear map of the long one's probabilities.

With the released `short` of 0 the short code gets no gradient of its own. Not in the released numbers, so our choices:
the fixed map is the least-squares one from the classes' long centers to random short ones, on -1/+1; the continuous
code is the difference of a bit's two probabilities.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import BatchNorm, epoch_generator
from math_hash.methods.method import Codes, Method, StreamFeatures


class TwDH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k, of the short code.
        num_labels: c.
        long_bits: bits of the long code.
        quan: weight of the long code's quantization, halved; its cross-entropy weighs 1/2.
        short: weight of the short code's two terms, halved.
        heads: of the attention over a modality's one pooled vector; the number of heads divides d.
    """

    needs = Needs(batch=True)
    centers: Tensor
    short_centers: Tensor
    map: Tensor

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        long_bits: int = 512,
        quan: float = 0.5,
        short: float = 0.0,
        heads: int = 8,
    ):
        super().__init__()
        self.k_bits, self.quan, self.short = k_bits, quan, short
        norms = {"image": BatchNorm(width), "text": nn.LayerNorm(width)}
        self.heads = nn.ModuleDict({name: LongHead(width, long_bits, heads, norms[name]) for name in self.streams})
        self.register_buffer("centers", torch.randn(num_labels, long_bits).sign())
        self.register_buffer("short_centers", torch.randn(num_labels, k_bits).sign())
        signs = torch.linalg.pinv(self.centers) @ self.short_centers  # (long, k)
        self.register_buffer("map", torch.kron(signs, torch.tensor([[0.5, -0.5], [-0.5, 0.5]])))
        self.generator = epoch_generator(0)

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.generator = epoch_generator(epoch)

    def hash_image(self, image: Features) -> Tensor:
        return self._code(self.shorten(self.heads["image"](image.pooled)))

    def hash_text(self, text: Features) -> Tensor:
        return self._code(self.shorten(self.heads["text"](text.pooled)))

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        """Stream -> probabilities of the long code, (b, 2 long), as pairs."""
        return {name: self.heads[name](stream.pooled, stream.batch) for name, stream in features.items()}

    def bank_codes(self, outputs: Codes) -> Codes:
        return {name: self._code(self.shorten(p)) for name, p in outputs.items()}

    def shorten(self, long: Tensor) -> Tensor:
        """Probabilities of the short code (b, 2 k) from those of the long one (b, 2 long)."""
        return pair_softmax(long @ self.map)

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        terms = self._terms("long", outputs, self._target(labels, self.centers), (0.5, 0.5 * self.quan))
        if self.short:
            short = {name: self.shorten(p) for name, p in outputs.items()}
            terms |= self._terms("short", short, self._target(labels, self.short_centers), (0.5 * self.short,) * 2)
        return terms

    def _terms(self, kind: str, outputs: Codes, target: Tensor, weights: tuple[float, float]) -> dict[str, Tensor]:
        terms = {}
        for name, p in outputs.items():
            terms[f"{name} {kind}"] = weights[0] * F.binary_cross_entropy(p, target)
            terms[f"{name} {kind} quan"] = weights[1] * (1 - (2 * p - 1).square().mean())
        return terms

    def _target(self, labels: Tensor, centers: Tensor) -> Tensor:
        """The sign of the mean of the labels' centers, ties decided by a random center; as pairs (b, 2 bits)."""
        mean = labels @ centers
        tie = torch.randint(2, centers.shape[1:], generator=self.generator).to(mean) * 2 - 1
        return as_pairs(torch.where(mean == 0, tie, mean.sign()))

    def _code(self, probabilities: Tensor) -> Tensor:
        pairs = probabilities.unflatten(-1, (-1, 2))
        # ReLU makes equal probabilities common; their arg-max is the first class, -1
        return pairs[..., 1] - pairs[..., 0] - torch.finfo(pairs.dtype).tiny


class LongHead(nn.Module):
    """Self-attention over one vector, a norm, a linear map, ReLU, a two-way softmax per bit: (b, 2 bits)."""

    def __init__(self, width: int, bits: int, heads: int, norm: nn.Module):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = norm
        self.linear = nn.Linear(width, 2 * bits)

    def forward(self, pooled: Tensor, batch: Tensor | None = None) -> Tensor:
        """Vectors (b, d), of which `batch` holds the rows of all processes."""
        attended = self._attend(pooled)
        if isinstance(self.norm, BatchNorm) and batch is not None:
            normed = self.norm(attended, self._attend(batch))
        else:
            normed = self.norm(attended)
        return pair_softmax(torch.relu(self.linear(normed)))

    def _attend(self, pooled: Tensor) -> Tensor:
        token = pooled[:, None]
        return self.attention(token, token, token, need_weights=False)[0][:, 0]


def pair_softmax(scores: Tensor) -> Tensor:
    """A softmax over each two neighboring values, (b, 2 bits)."""
    return scores.unflatten(-1, (-1, 2)).softmax(dim=-1).flatten(1)


def as_pairs(codes: Tensor) -> Tensor:
    """Codes of -1/+1 (n, bits) as probabilities: -1 is (1, 0), +1 is (0, 1); (n, 2 bits)."""
    return torch.stack([codes < 0, codes > 0], dim=-1).flatten(1).to(codes.dtype)
