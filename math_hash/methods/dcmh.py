"""DCMH: deep cross-modal hashing, the baseline of this family of methods.

Jiang and Li, "Deep Cross-Modal Hashing", CVPR 2017, equation 1: the inter-modal likelihood between the banks of image
and text codes, quantization to common binary codes B = sign(F + G) and balance of the bits over the whole training
set. Image and text are updated in turn, and B is renewed once per epoch. As in the released code, all three are sums,
divided by the number of pairs n b.

Departures from the release: a CLIP with a two-layer head per modality, whose codes pass a tanh.
"""

from math import inf

from torch import Tensor

from math_hash.methods.method import Codes, EpochBinary, other
from math_hash.methods.objectives import pairwise_likelihood, shared_label


class DCMH(EpochBinary):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        gamma, eta: weights of quantization and of bit balance.
        hidden: width of the heads' hidden layer; 0 for one linear layer.
    """

    turns = (("image",), ("text",))

    def __init__(self, width: int, k_bits: int, *, gamma: float = 1.0, eta: float = 1.0, hidden: int = 2048):
        super().__init__(width, k_bits, hidden=hidden)
        self.gamma, self.eta = gamma, eta

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        terms = {}
        for name, h in outputs.items():
            elsewhere = bank[name].sum(dim=0) - bank[name][rows].sum(dim=0)
            terms[f"{name} inter"] = pairwise_likelihood(bank[other(name)], h, S, limit=inf)
            terms[f"{name} quan"] = self.gamma * (bank["binary"][rows] - h).square().sum() / S.numel()
            terms[f"{name} balance"] = self.eta * (h.sum(dim=0) + elsewhere).square().sum() / S.numel()
        return terms
