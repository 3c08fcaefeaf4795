"""DGCPN: deep graph-neighbor coherence preserving network, which needs no labels.

Yu, Zhou, Zhan and Tao, "Deep Graph-neighbor Coherence Preserving Network for Unsupervised Cross-modal Hashing", AAAI
2021. The cosines of the codes are fitted to a similarity S of the features that the encoder has before training, half
pairwise and half by common neighbors in the graph of all training rows; the four matrices of cosines should agree, and
an image's code with its own text's.

In the release each batch is used three times: with relaxed codes, with the text codes binarized and constant, and with
the image codes so. Departure: these are three turns here, so each passes over all training rows, and the constant codes
are the latest in the bank. `dropped` and `scale` are released as numbers for 5,000 training rows, 3000 and 4000.

An option that the release does not have, off: `center` centers the features over the training rows, since those of an
encoder that was not trained all lie in one narrow cone.
"""

import torch
from torch import Tensor

from math_hash.data import Needs
from math_hash.methods.method import Codes, PooledMethod, TrainingSet
from math_hash.methods.objectives import cosine, sign, total


class DGCPN(PooledMethod):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        text_share: share of the texts' cosines in the features' similarity, beside the images'.
        neighbor_share: share of the common neighbors in S.
        dropped: share of a row's smallest similarities that are no neighbors.
        scale: factor of the common neighbors, as a share of the number of training rows.
        paired: target of the cosine of an image's and its text's codes.
        similarity, consistency: weights of the fit to S and of the agreement of the cosines.
        center: center the features from which S is computed.
        hidden: width of the heads' hidden layer; 0 for one linear layer.
    """

    turns = (("image", "text"), ("image",), ("text",))
    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        text_share: float = 0.01,
        neighbor_share: float = 0.3,
        dropped: float = 0.6,
        scale: float = 0.8,
        paired: float = 1.5,
        similarity: float = 1.0,
        consistency: float = 1.0,
        center: bool = False,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.shares, self.dropped, self.scale = (text_share, neighbor_share), dropped, scale
        self.paired, self.similarity, self.consistency, self.center = paired, similarity, consistency, center

    def prepare(self, training: TrainingSet) -> None:
        text_share, neighbor_share = self.shares
        features = training.image, training.text
        by_image, by_text = (cosine(f, f) for f in ([f - f.mean(dim=0) for f in features] if self.center else features))
        W = text_share * by_text + (1 - text_share) * by_image
        n = len(W)
        P = drop_smallest(W, round(self.dropped * n))
        P[torch.arange(n), W.argmax(dim=1)] = 0
        P = P / P.sum(dim=1, keepdim=True)
        self.S = 2 * ((1 - neighbor_share) * W + neighbor_share * self.scale * n * P @ P.T) - 1

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        S = self.S[rows][:, rows]
        image, text = (outputs[name] if name in outputs else sign(bank[name][rows]) for name in ("image", "text"))
        ii, tt, it = cosine(image, image), cosine(text, text), cosine(image, text)
        apart = 1 - torch.eye(len(rows), dtype=it.dtype, device=it.device)
        turn = " ".join(outputs)
        terms = {
            name: self.similarity * ((values - S).square() * apart).mean()
            for name, values in {"image": ii, "text": tt, "cross": it}.items()
        }
        terms["pair"] = (it.diagonal() - self.paired).square().mean()
        agreeing = (it, ii), (it, tt), (ii, tt), (it, it.T)
        terms["consistency"] = self.consistency * total((one - two).square().mean() for one, two in agreeing)
        return {f"{turn} {name}": term for name, term in terms.items()}


def drop_smallest(values: Tensor, count: int) -> Tensor:
    """A copy of a matrix whose `count` smallest entries in each row are 0."""
    smallest = values.topk(count, dim=1, largest=False).indices
    return values.scatter(1, smallest, 0.0)
