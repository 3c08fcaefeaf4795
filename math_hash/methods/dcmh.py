"""DCMH: deep cross-modal hashing, the baseline of this family of methods.

Jiang and Li, "Deep Cross-Modal Hashing", CVPR 2017, equation 1: the inter-modal likelihood between the banks of image
and text codes, quantization to common binary codes B = sign(F + G) and balance of the bits. Image and text are updated
in turn.

Departures from the paper: the two networks are a CLIP with a two-layer head per modality; sums are means, so that the
learning rate does not depend on the size of the data; B follows the banks at once instead of once per epoch; and bits
are balanced over the batch, because a bank lags behind, which would drive all of its codes to one side.
"""

from torch import Tensor

from math_hash.methods.method import Codes, PooledMethod, consensus, other
from math_hash.methods.objectives import pairwise_likelihood, quantization, shared_label


class DCMH(PooledMethod):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        gamma, eta: weights of quantization and of bit balance.
        hidden: width of the heads' hidden layer.
    """

    turns = (("image",), ("text",))

    def __init__(self, width: int, k_bits: int, *, gamma: float = 0.1, eta: float = 0.1, hidden: int = 2048):
        super().__init__(width, k_bits, hidden=hidden)
        self.gamma, self.eta = gamma, eta

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = shared_label(bank_labels, bank_labels[rows])  # (n, b)
        B = consensus(bank, rows)
        terms = {}
        for name, h in outputs.items():
            terms[f"{name} inter"] = pairwise_likelihood(bank[other(name)], h, S)
            terms[f"{name} quan"] = self.gamma * quantization(h, B)
            terms[f"{name} balance"] = self.eta * h.mean(dim=0).square().mean()
        return terms
