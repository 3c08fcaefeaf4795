"""DHaPH: deep hierarchy-aware proxy hashing with self-paced learning.

As its authors released it (QinLab-WFU/DHaPH). A contrast of similar and dissimilar rows, whose weights grow from easy
to hard in the first third of training; and a hierarchy in the Poincare ball: proxies are the ancestors of the codes'
images there.

Fact about the release, and the default here: codes are detached before the hyperbolic part, so that it never trains the
hash functions (`detach=False` lets it).
Triplets are drawn as in the release, after Kim et al., "HIER", CVPR 2023: for each point with several mutual nearest
neighbors, one of them and one row that is not (which may be the point itself); rows that share a label are nearer than
all others.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.methods.hyperbolic import ball_distances, hierarchy_loss, to_ball
from math_hash.methods.layers import epoch_generator
from math_hash.methods.method import Codes, ParameterGroup, PooledMethod, code_pairs
from math_hash.methods.objectives import cosine, shared_label


class DHaPH(PooledMethod):
    """The heads, the proxies and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        temperature: of the contrast.
        hierarchy: weight of the hyperbolic terms; 0 leaves them out, which changes no code where codes are detached.
        margin: of the hierarchy.
        proxies: number of proxies.
        neighbors: how many nearest neighbors may be mutual.
        triplets: drawn per point with mutual neighbors.
        ancestor_temperature: of the choice of ancestors.
        curvature, longest: of the ball, and the length to which vectors are cut before they are mapped into it.
        detach: codes get no gradient from the hierarchy.
        proxy_lr: learning rate of the AdamW of the proxies and of the projection.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        temperature: float = 0.3,
        hierarchy: float = 1.0,
        margin: float = 0.1,
        proxies: int = 500,
        neighbors: int = 15,
        triplets: int = 50,
        ancestor_temperature: float = 0.1,
        curvature: float = 0.1,
        longest: float = 2.3,
        detach: bool = True,
        proxy_lr: float = 1e-5,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.temperature, self.hierarchy, self.margin, self.detach = temperature, hierarchy, margin, detach
        self.neighbors, self.per_point, self.proxy_lr = neighbors, triplets, proxy_lr
        self.ancestor_temperature, self.curvature, self.longest = ancestor_temperature, curvature, longest
        self.proxies = nn.Parameter(0.9 * longest * torch.randn(proxies, k_bits) / k_bits**0.5)
        self.projection = nn.Linear(k_bits, k_bits)
        self.hardness, self.generator = 1.0, epoch_generator(0)

    def parameter_groups(self) -> list[ParameterGroup]:
        own = [self.proxies, *self.projection.parameters()]
        return [{"params": own, "optimizer": torch.optim.AdamW, "lr": self.proxy_lr}]

    def on_epoch(self, epoch: int, epochs: int, bank: Codes) -> None:
        self.hardness = min(1.0, epoch / max(1, epochs // 3))
        self.generator = epoch_generator(epoch)

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels[rows], bank_labels[rows])
        terms = {f"{name} contrast": self._contrast(cosine(*pair), S) for name, pair in code_pairs(outputs).items()}
        if not self.hierarchy:
            return terms
        proxies = to_ball(self.proxies, self.curvature, self.longest)
        for name, h in outputs.items():
            vectors = self.projection(F.layer_norm(h.detach() if self.detach else h, h.shape[-1:]))
            points = to_ball(vectors, self.curvature, self.longest)
            terms[f"{name} hierarchy"] = self._hierarchy(points, proxies, S)
            terms[f"{name} hierarchy proxies"] = self._hierarchy(proxies, proxies, torch.zeros(()))
        return terms

    def _contrast(self, cosines: Tensor, S: Tensor) -> Tensor:
        """-mean log(P / (P + N)) over rows; e^(cos/T) weighs by the detached e^(-1-cos) or e^(cos-1) to a power."""
        power = self.hardness * torch.where(S > 0, (-1 - cosines) / 4, cosines - 1).detach()
        weighted = torch.exp(cosines / self.temperature + power)
        P, N = (weighted * S).sum(dim=1), (weighted * (1 - S)).sum(dim=1)
        return -torch.log(P / (P + N)).mean()

    def _hierarchy(self, points: Tensor, proxies: Tensor, S: Tensor) -> Tensor:
        nearness = torch.exp(-ball_distances(points, points, self.curvature)) + S.to(points)
        triplets = self.draw_triplets(nearness.detach())
        if not len(triplets):
            return 0 * points.sum()
        noise = self.gumbel(len(triplets)).to(points), self.gumbel(len(triplets)).to(points)
        distance = ball_distances(points, proxies, self.curvature)
        return self.hierarchy * hierarchy_loss(distance, triplets, noise, self.margin, self.ancestor_temperature)

    def gumbel(self, count: int) -> Tensor:
        """Gumbel noise, (count, p)."""
        uniform = torch.rand((count, len(self.proxies)), generator=self.generator)
        return -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))

    def draw_triplets(self, nearness: Tensor) -> Tensor:
        """Points with several mutual nearest neighbors, one of these, and another row: int64 (t, 3), from (n, n)."""
        n = len(nearness)
        nearest = nearness.cpu().topk(min(self.neighbors, n), dim=1).indices
        listed = torch.zeros(n, n, dtype=torch.bool).scatter_(1, nearest, True)
        mutual = listed & listed.T & ~torch.eye(n, dtype=torch.bool)
        anchors = (mutual.sum(dim=1) > 1).nonzero()[:, 0]
        if not len(anchors):
            return anchors.new_zeros((0, 3))
        drawn = [
            torch.multinomial(chosen[anchors].float(), self.per_point, replacement=True, generator=self.generator)
            for chosen in (mutual, ~mutual)
        ]
        first = anchors[:, None].expand(-1, self.per_point)
        return torch.stack([first, *drawn], dim=2).flatten(0, 1).to(nearness.device)
