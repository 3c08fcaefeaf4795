"""Rows, labels and features to test methods on."""

import numpy as np
import torch

from math_hash.encoders import Features
from math_hash.methods import METHODS, complete_options

B_ROWS, N_ROWS, K, C, D = 6, 11, 5, 4, 64
ROWS = np.array([3, 0, 7, 10, 5, 2])
TRAINED = [name for name, method in METHODS.items() if method.trained_by_gradient]
FACTS = {"num_labels": C, "stage_widths": (24, 20)}


def build(name, k=K, **options):
    torch.manual_seed(0)
    return METHODS[name](D, k, **complete_options(name, options, FACTS))


def label_rows(n=N_ROWS, seed=1):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, C)) < 0.4).astype(float)
    labels[labels.sum(axis=1) == 0, 0] = 1
    return labels


LABELS = label_rows()


def features_of(b, seed=2, tokens=7):
    generator = torch.Generator().manual_seed(seed)

    def some(width, length=None):
        padding = None if length is None else torch.arange(tokens) >= length[:, None]
        draw = [torch.randn(*shape, generator=generator) for shape in ((b, tokens, D), (b, D), (b, 4, width))]
        return Features(draw[0], draw[1], padding, draw[2], batch=draw[1])

    lengths = torch.randint(2, tokens + 1, (b,), generator=generator)
    return {"image": some(24), "text": some(20, lengths), "label": some(20, lengths)}


def codes(width=K, seed=5):
    return np.tanh(np.random.default_rng(seed).normal(size=(B_ROWS, width)))


def bits(values):
    return np.where(values >= 0, 1.0, -1.0)


def share(i, j):
    return float(LABELS[i] @ LABELS[j] > 0)
