"""DScPH: deep semantic-consistency penalizing hashing.

As its authors released it in their collection of CLIP-based hashing (QinLab). Codes are drawn to the proxies of their
labels by a Tversky-like ratio over the whole batch, in which pairs that are far off weigh more; and the bits of the
rotated unit codes should be decided: s (1 - s) is small, s being the sigmoid of a bit. The rotation is a product of
Householder reflections.

Defect of that release: the rotation is in no optimizer and starts at the identity, so it does nothing
(`train_rotation=False`). The method's own repository trains it, has tau = psi = 0.3 and an Adam of the proxies at 1e-5
(`proxy_lr`; in the collection they learn with the heads), and a triplet loss whose code is missing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.methods.method import Codes, ParameterGroup, PooledMethod
from math_hash.methods.objectives import cosine

_ROTATION_LR = 1e-5  # of BertAdam, as CLIP's in the method's own repository


class DScPH(PooledMethod):
    """The heads, the proxies, the rotation and the objective.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        num_labels: c.
        tau: cosine to the proxy of an absent label above which it counts.
        psi: subtracted from such a cosine.
        steepness: how much more pairs weigh that are far off.
        proxy_lr: learning rate of an Adam of the proxies; None: they learn with the heads.
        train_rotation: whether the rotation learns, at the rate of the authors' CLIP.
        hidden, dropout: of the heads, as in `hash_head`.
    """

    def __init__(
        self,
        width: int,
        k_bits: int,
        num_labels: int,
        *,
        tau: float = 0.9,
        psi: float = 0.7,
        steepness: float = 1.3,
        proxy_lr: float | None = None,
        train_rotation: bool = False,
        hidden: int = 0,
        dropout: float = 0.2,
    ):
        super().__init__(width, k_bits, hidden=hidden, dropout=dropout)
        self.tau, self.psi, self.steepness, self.proxy_lr = tau, psi, steepness, proxy_lr
        self.proxies = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_labels, k_bits)))
        self.rotation = nn.Parameter(torch.eye(k_bits), requires_grad=train_rotation)

    def parameter_groups(self) -> list[ParameterGroup]:
        groups: list[ParameterGroup] = []
        if self.proxy_lr is not None:
            groups.append({"params": [self.proxies], "optimizer": torch.optim.Adam, "lr": self.proxy_lr})
        if self.rotation.requires_grad:
            groups.append({"params": [self.rotation], "lr": _ROTATION_LR})
        return groups

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows].float()
        R = householder(self.rotation)
        terms = {}
        for name, h in outputs.items():
            terms[f"{name} proxy"] = self._proxy_loss(cosine(h, self.proxies), labels)
            s = torch.sigmoid(F.normalize(h @ R.T, dim=-1))
            terms[f"{name} bit variance"] = (s * (1 - s)).mean()
        return terms

    def _proxy_loss(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """1 - t / (t + p + n), from the cosines to the proxies (b, c)."""
        true = 2 * (torch.relu(cosines) * labels).sum() + 2
        weight = torch.exp(self.steepness * (1 - cosines)).detach()
        missed = ((1 - cosines) * weight * labels).sum()
        wrong = (1 - labels) * (cosines > self.tau)
        weight = torch.exp(self.steepness * (cosines - 1)).detach()
        return 1 - true / (true + missed + ((cosines - self.psi) * weight * wrong).sum())


def householder(vectors: Tensor) -> Tensor:
    """The product of the reflections at the unit columns of a matrix (k, k), the first one leftmost: (k, k)."""
    product = torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device)
    for column in F.normalize(vectors, dim=0).unbind(dim=1):
        product = product - 2 * torch.outer(product @ column, column)
    return product
