"""UCCH: unsupervised contrastive cross-modal hashing, which needs no labels.

Hu, Zhu, Lin, Peng, Zhao and Peng, "Unsupervised Contrastive Cross-modal Hashing", IEEE TPAMI 2023. Unit codes are
contrasted with binary memories of random training rows (in the first epoch, of the batch itself), and image and text of
a batch are ranked against each other, where entries well below the right one are pushed away less. Heads (three linear
layers with ReLU, tanh, unit length) and constants are those of the release.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.encoders.features import Features
from math_hash.methods.layers import epoch_generator
from math_hash.methods.method import Codes, Method, StreamFeatures
from math_hash.methods.objectives import sign


class Ranking(NamedTuple):
    """Constants of the ranking: entries lower than the right one by `margin` are lowered by `shift`."""

    margin: float
    shift: float


class UCCH(Method):
    """The heads and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        contrast: weight of the contrast; the ranking has the rest, up to 1.
        margin, shift: of the ranking: entries lower than the right one by the margin are lowered by the shift.
        temperature: of the contrast.
        momentum: share of a row's old memory that stays.
        negatives: memories drawn per row; at most as many as there are training rows.
        warm_up: number of epochs in which the batch itself is the memory.
        widths: of the heads' hidden layers.
    """

    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        contrast: float = 0.9,
        margin: float = 0.2,
        shift: float = 1.0,
        temperature: float = 0.9,
        momentum: float = 0.4,
        negatives: int = 4096,
        warm_up: int = 1,
        widths: tuple[int, int] = (4096, 4096),
    ):
        super().__init__()
        self.k_bits, self.contrast, self.ranking = k_bits, contrast, Ranking(margin, shift)
        self.temperature, self.momentum, self.negatives, self.warm_up = temperature, momentum, negatives, warm_up
        self.warming, self.generator = True, epoch_generator(0)
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(width, widths[0]), nn.ReLU(), nn.Linear(*widths), nn.ReLU(), nn.Linear(widths[1], k_bits)
                )
                for name in self.streams
            }
        )

    @property
    def banks(self) -> dict[str, int]:
        return super().banks | {"memory": self.k_bits}

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.warming, self.generator = epoch <= self.warm_up, epoch_generator(epoch)

    def hash_image(self, image: Features) -> Tensor:
        return F.normalize(torch.tanh(self.heads["image"](image.pooled)), dim=-1)

    def hash_text(self, text: Features) -> Tensor:
        return F.normalize(torch.tanh(self.heads["text"](text.pooled)), dim=-1)

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        return {"image": self.hash_image(features["image"]), "text": self.hash_text(features["text"])}

    def bank_codes(self, outputs: Codes) -> Codes:
        return outputs

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        image, text, memory = outputs["image"], outputs["text"], bank["memory"]
        mean = ((image + text) / 2).detach()
        scale = self.temperature * self.k_bits**0.5
        if self.warming:
            target = torch.arange(len(rows), device=rows.device)
            binary = sign(mean).to(mean)
            scores = {name: h @ binary.T / scale for name, h in outputs.items()}
        else:
            target = torch.zeros_like(rows)
            binary = sign(memory[torch.cat([rows[:, None], self.draw(rows, len(memory))], dim=1)]).to(
                mean
            )  # (b, 1 + r, k)
            scores = {name: (binary @ h[:, :, None])[..., 0] / scale for name, h in outputs.items()}
        kept = 0.0 if self.warming else self.momentum
        with torch.no_grad():  # the memory is renewed after it was used
            renewed = kept * memory[rows] + (1 - kept) * F.normalize(mean, dim=-1)
            memory[rows] = F.normalize(renewed, dim=-1).to(memory.dtype)
        s = image @ text.T
        terms = {f"{name} contrast": self.contrast * F.cross_entropy(score, target) for name, score in scores.items()}
        return terms | {"ranking": (1 - self.contrast) * (self._rank(s) + self._rank(s.T))}

    def draw(self, rows: Tensor, n: int) -> Tensor:
        """Rows of the memory for each row of the batch, which may be among them: int64 (b, r)."""
        drawn = torch.randint(n, (len(rows), min(self.negatives, n)), generator=self.generator)
        return drawn.to(rows.device)

    def _rank(self, s: Tensor) -> Tensor:
        own = s.diagonal()[:, None]
        lowered = torch.where(s < own - self.ranking.margin, s - self.ranking.shift, s)
        return (lowered.logsumexp(dim=1) - own[:, 0] + self.ranking.margin).mean()
