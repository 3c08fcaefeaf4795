"""MMACH: multi-label modality enhanced attention based self-supervised deep cross-modal hashing.

Zou et al., "Multi-label modality enhanced attention based self-supervised deep cross-modal hashing", Knowledge-Based
Systems 239, 2022. Label features, enhanced by attention over image and text features (the fusion that MATH also has),
are hashed and supervise the other two modalities; a multi-label triplet loss orders the items of the other modality by
the number of labels that they share with an anchor.

Neither code nor formulas were ever released, only preprocessing: this is a reconstruction from the paper's description.
Our choices: the labels' feature is their names, encoded as a text; the label codes learn by the pairwise likelihood,
and supervise the others by it; distances in the triplet loss are soft Hamming distances divided by k, and its margin is
`margin` times the difference in shared labels over the anchor's own number of labels; B is the sign of the sum of all
banks; all terms are means, with the weights below; the heads have two layers.
"""

import torch
from torch import Tensor

from math_hash.data import Needs
from math_hash.methods.layers import fuse_with_batch, hash_head
from math_hash.methods.method import Codes, PooledMethod, StreamFeatures, consensus, other
from math_hash.methods.objectives import pairwise_likelihood, quantization, shared_label, total
from math_hash.methods.recompute import recomputed

ANCHORS = 8  # anchors at a time in the triplet loss, whose b x b x b values are never held at once


class MMACH(PooledMethod):
    """The objective, on a two-layer head per stream.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        triplet, quan: weights of the triplet loss and of quantization.
        margin: factor of the triplet loss's margin, in [0, 1].
        hidden: width of the heads' hidden layer.
    """

    streams = ("image", "text", "label")
    turns = (streams,)
    needs = Needs(label_text=True, batch=True)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        triplet: float = 1.0,
        quan: float = 0.1,
        margin: float = 0.2,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.heads["label"] = hash_head(width, k_bits, hidden)
        self.triplet, self.quan, self.margin = triplet, quan, margin

    def outputs(self, features: StreamFeatures, labels: Tensor) -> Codes:
        image, text, label = (features[name] for name in self.streams)
        pooled = {"image": image.pooled, "text": text.pooled, "label": fuse_with_batch(label, image, text)}
        return {name: self.heads[name](vectors) for name, vectors in pooled.items()}

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        labels = bank_labels[rows]
        S = shared_label(bank_labels, labels)  # (n, b)
        B = consensus(bank, rows)
        return {
            "label": pairwise_likelihood(bank["label"], outputs["label"], S),
            "supervision": total(pairwise_likelihood(bank["label"], outputs[name], S) for name in ("image", "text")),
            "triplet": self.triplet
            * total(
                multi_label_triplet(outputs[name], outputs[other(name)], labels, self.margin)
                for name in ("image", "text")
            ),
            "quan": self.quan * total(quantization(h, B) for h in outputs.values()),
        }


def multi_label_triplet(anchors: Tensor, items: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean over all triplets (i, j, l) with r_ij > r_il of relu(d_ij - d_il + margin (r_ij - r_il) / r_ii).

    r counts shared labels; d = (k - h_i g_j) / (2 k) is the soft Hamming distance as a fraction of the bits.

    Args:
        anchors: h, codes (b, k) of one modality.
        items: g, codes (b, k) of the other modality, of the same instances in the same order.
        labels: 0/1 (b, c).
    """
    k = anchors.shape[1]
    d = (k - anchors @ items.T) / (2 * k)
    r = labels.float() @ labels.float().T
    share = r / r.diagonal().clamp(min=1)[:, None]
    sums = [_triplet_losses(*part, margin) for part in zip(d.split(ANCHORS), share.split(ANCHORS), strict=True)]
    valid = total((part[:, :, None] > part[:, None]).sum() for part in share.split(ANCHORS))
    return total(sums) / valid.clamp(min=1)


@recomputed
def _triplet_losses(d: Tensor, share: Tensor, margin: float) -> Tensor:
    """The sum over the triplets of a few anchors, (a, b) each."""
    gap = share[:, :, None] - share[:, None, :]  # (a, b, b): how much more j shares than l
    return (torch.relu(d[:, :, None] - d[:, None, :] + margin * gap) * (gap > 0)).sum()
