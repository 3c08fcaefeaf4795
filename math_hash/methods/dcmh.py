"""DCMH: deep cross-modal hashing, the baseline of the whole family.

Jiang and Li, "Deep Cross-Modal Hashing", CVPR 2017, equation 1: the inter-modal likelihood between the banks of image
and text codes, quantization to common binary codes B = sign(F + G) and balance of the bits, image and text updated in
turn. The paper's sums over all pairs are divided by n b here, so that the learning rate does not depend on the data's
size.

Departures from the paper: the two networks are a CLIP with a two-layer head a modality; B follows the banks at once
instead of once an epoch.
"""

from torch import Tensor

from math_hash.methods.method import Codes, PooledMethod, consensus, other
from math_hash.objectives import pairwise_likelihood, shared_label


class DCMH(PooledMethod):
    """The objective, on a two-layer head a modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        gamma, eta: weights of quantization and of bit balance (the paper's section 4.4).
    """

    turns = (("image",), ("text",))

    def __init__(self, width: int, k_bits: int, *, gamma: float = 1.0, eta: float = 1.0):
        super().__init__(width, k_bits)
        self.gamma, self.eta = gamma, eta

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        B = consensus(bank, rows)
        pairs = S.numel()
        terms = {}
        for name, h in outputs.items():
            unbalance = bank[name].sum(dim=0) - bank[name][rows].sum(dim=0) + h.sum(dim=0)  # F 1, this batch's live
            terms[f"{name} inter"] = pairwise_likelihood(bank[other(name)], h, S)
            terms[f"{name} quan"] = self.gamma * (B - h).square().sum() / pairs
            terms[f"{name} balance"] = self.eta * unbalance.square().sum() / pairs
        return terms
