"""CIRH: correlation-identity reconstruction hashing, which needs no labels.

Zhu, Wu, Li, Zhang, Guan and Shen, "Work Together: Correlation-Identity Reconstruction Hashing for Unsupervised
Cross-modal Retrieval", IEEE TKDE 2022. A graph network of a batch's features, mixed with those of their nearest
neighbors, finds codes that keep an affinity S and from which the features can be decoded; the hash functions of image
and text learn the signs of these codes. Networks, terms and weights are those of the release.

Defect: the hash functions' step takes S by the batch's position in the epoch, so from other rows
(`affinity_by="position"`; "rows" takes the batch's own). Option: neighbors are those in the batch, as released, or in
all training rows (`neighbors_in="all"`).

Departures: the two are trained in one step, not in alternate ones (they share no parameters); features are those that
the encoder has before training. `dropped` is released as 3000 of the training rows.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data import Needs
from math_hash.methods.dgcpn import drop_smallest
from math_hash.methods.layers import BatchNorm
from math_hash.methods.method import Codes, ParameterGroup, PooledMethod, TrainingSet
from math_hash.methods.objectives import cosine, quantization, sign, total

_MIX = {0: 0.7, 2: 0.2, 3: 0.1}  # share of a row itself, and of its second and third nearest neighbor


class GraphCodes(NamedTuple):
    """Codes of image, text and both (b, k), and the decoded features (b, d)."""

    image: Tensor
    text: Tensor
    joint: Tensor
    image_decoded: Tensor
    text_decoded: Tensor


class CIRH(PooledMethod):
    """The heads, the graph network and the objectives of both.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        image_share: share of the images' cosines in W, beside the texts'.
        first_order: share of W in S, beside its sharpened form.
        dropped: share of a row's smallest entries of W that are set to 0.
        reconstruction, affinity: weights of the graph network's terms.
        beta: weight of the hash functions' affinities.
        affinity_by: which rows' affinity the hash functions keep.
        neighbors_in: where the neighbors are sought that a row is mixed with.
        graph_width: of the graph network's layers.
        graph_lr: learning rate of its Adam.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        image_share: float = 0.6,
        first_order: float = 0.6,
        dropped: float = 0.6,
        reconstruction: float = 10.0,
        affinity: float = 1.0,
        beta: float = 0.01,
        affinity_by: Literal["position", "rows"] = "position",
        neighbors_in: Literal["batch", "all"] = "batch",
        graph_width: int = 512,
        graph_lr: float = 1e-3,
        hidden: int = 4096,
        dropout: float = 0.3,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.shares, self.dropped, self.beta = (image_share, first_order), dropped, beta
        self.reconstruction, self.affinity, self.graph_lr = reconstruction, affinity, graph_lr
        self.affinity_by, self.neighbors_in, self.position = affinity_by, neighbors_in, 0
        self.graph = GraphNetwork((width, width), k_bits, graph_width)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [*self.graph.parameters()], "optimizer": torch.optim.Adam, "lr": self.graph_lr}]

    def prepare(self, training: TrainingSet) -> None:
        image_share, first_order = self.shares
        by_image, by_text = (cosine(features, features) for features in (training.image, training.text))
        W = image_share * by_image + (1 - image_share) * by_text
        W = drop_smallest(W, round(self.dropped * len(W)))
        sharp = 2 * torch.sigmoid(W) - 1 + torch.eye(len(W), device=W.device)
        self.S = first_order * W + (1 - first_order) * (sharp + sharp.T) / 2
        self.features = training.image, training.text
        if self.neighbors_in == "all":
            self.features = mixed_with_neighbors(training.image, self.S), mixed_with_neighbors(training.text, self.S)

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.position = 0

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = self.S[rows][:, rows].to(outputs["image"])
        mixed = [features[rows].to(S) for features in self.features]
        if self.neighbors_in == "batch":
            mixed = [mixed_with_neighbors(features, S) for features in mixed]
        found = self.graph(*mixed, S)
        kept = self._next_affinity(len(rows)).to(S) if self.affinity_by == "position" else S
        return self.graph_terms(found, mixed, S) | self.hash_terms(outputs, sign(found.joint.detach()), kept)

    def _next_affinity(self, count: int) -> Tensor:
        """The affinity of the training rows at the batch's position in the epoch, (b, b)."""
        rows = torch.arange(self.position, self.position + count, device=self.S.device) % len(self.S)
        self.position += count
        return self.S[rows][:, rows]

    def graph_terms(self, codes: GraphCodes, features: list[Tensor], S: Tensor) -> dict[str, Tensor]:
        """The graph network's objective, for a batch's mixed features (b, d) and affinity (b, b)."""
        errors = [
            (decoded - given).square().mean()
            for decoded, given in zip((codes.image_decoded, codes.text_decoded), features, strict=True)
        ]
        return {
            "reconstruction": self.reconstruction * total(errors),
            "graph affinity": self.affinity * total((cosine(h, h) - S).square().mean() for h in codes[:3]),
            "graph quan": quantization(codes.joint, sign(codes.joint.detach())),
        }

    def hash_terms(self, outputs: Codes, B: Tensor, S: Tensor) -> dict[str, Tensor]:
        """The hash functions' objective, for the graph network's binary codes (b, k)."""
        image, text = outputs["image"], outputs["text"]
        pairs = (image, image), (text, text), (image, text)
        return {
            "codes": total(quantization(*pair) for pair in ((image, B), (text, B), (image, text))),
            "affinity": self.beta * total((cosine(*pair) - S).square().mean() for pair in pairs),
        }


def mixed_with_neighbors(features: Tensor, S: Tensor) -> Tensor:
    """Each row's features mixed with those of its second and third nearest in S (n, n): (n, d)."""
    last = min(max(_MIX), len(S) - 1)
    nearest = S.topk(last + 1, dim=1).indices
    return total(share * features[nearest[:, min(place, last)]] for place, share in _MIX.items())


class GraphNetwork(nn.Module):
    """Graph convolutions of both modalities' features, apart and together; codes, and decoders to features."""

    def __init__(self, widths: tuple[int, int], k_bits: int, width: int):
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(given, width), BatchNorm(width), nn.ReLU()) for given in widths
        )
        self.convolutions = nn.ModuleList(nn.Linear(width, width) for _ in range(3))  # image, text, both
        self.norms = nn.ModuleList(BatchNorm(width) for _ in range(3))
        self.hashes = nn.ModuleList(
            nn.Sequential(nn.Linear(given, k_bits), BatchNorm(k_bits))
            for given in (2 * width, 2 * width, width, 3 * k_bits)  # image, text, both, all
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(k_bits, width), BatchNorm(width), nn.ReLU(), nn.Linear(width, given), BatchNorm(given)
            )
            for given in widths
        )  # fmt: skip

    def forward(self, image: Tensor, text: Tensor, affinity: Tensor) -> GraphCodes:
        """Features (b, d) each and their affinity (b, b)."""
        one, two = (F.normalize(layer(x), dim=1) for layer, x in zip(self.encoders, (image, text), strict=True))
        by_image, by_text = (
            torch.relu(norm(affinity @ layer(x)))
            for norm, layer, x in zip(self.norms, self.convolutions, (one, two), strict=False)
        )
        identity = torch.eye(len(affinity), dtype=affinity.dtype, device=affinity.device)
        cross = torch.cat([torch.cat([affinity, identity], dim=1), torch.cat([identity, affinity], dim=1)])
        both = self.norms[2](cross @ self.convolutions[2](torch.cat([one, two])))
        joint = torch.relu(both[: len(image)] + both[len(image) :])
        h_image = self.hashes[0](torch.cat([by_image, joint], dim=1))
        h_text = self.hashes[1](torch.cat([joint, by_text], dim=1))
        h = torch.tanh(self.hashes[3](torch.cat([h_image, self.hashes[2](joint), h_text], dim=1)))
        decoded = [decode(h + torch.tanh(own)) for decode, own in zip(self.decoders, (h_image, h_text), strict=True)]
        return GraphCodes(h_image, h_text, h, *decoded)
