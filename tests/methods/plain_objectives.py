"""The objective of each method, transcribed as loops over pairs: codes (stream -> rows) and banks -> the loss."""

import numpy as np
from methods.plain_pairs import (
    B_ROWS,
    LABELS,
    ROWS,
    K,
    bits,
    consensus,
    cos,
    info_nce,
    jaccard,
    label_cosine,
    nll,
    other,
    pairs_mean,
    quan,
    share,
)
from numpy.linalg import norm


def plain_dcmh(h, bank):
    total = 0.0
    for name in h:
        total += nll(bank[other(name)], h[name])
        total += 0.1 * quan(h[name], consensus(bank))
        total += 0.1 * np.mean([np.mean(column) ** 2 for column in h[name].T])
    return total


def plain_mlsph(h, bank, centered=False):
    total = 0.0
    for name in h:

        def error(i, j, f, code):
            return (2 * jaccard(i, ROWS[j]) - centered - cos(f, code)) ** 2

        total += pairs_mean(bank[other(name)], h[name], error)
        total += 1.4 * pairs_mean(bank[name], h[name], error)
        total += 0.1 * quan(h[name], consensus(bank))
    return 10 * total


def plain_mesdch(h, bank):
    def divergence(i, j, f, code):
        target, c = label_cosine(i, ROWS[j]), max(cos(f, code), 0)
        return (target - c) * np.log((1e-5 + target) / (1e-5 + c))

    weights = {
        "label": {"label": 1.9, "image": 1.0, "text": 0.3},
        "image": {"image": 1.9, "label": 1.0},
        "text": {"text": 1.9, "label": 1.0},
    }
    total = 0.0
    for name in h:
        for stream, weight in weights[name].items():
            total += weight * pairs_mean(bank[stream], h[name], divergence)
        total += 0.9 * quan(h[name], consensus(bank))
    return total


def plain_mmach(h, bank):
    total = nll(bank["label"], h["label"]) + nll(bank["label"], h["image"]) + nll(bank["label"], h["text"])
    for anchor, item in (("image", "text"), ("text", "image")):
        losses = []
        for i in range(B_ROWS):
            d = [(K - h[anchor][i] @ h[item][j]) / (2 * K) for j in range(B_ROWS)]
            r = [LABELS[ROWS[i]] @ LABELS[ROWS[j]] for j in range(B_ROWS)]
            for j in range(B_ROWS):
                for m in range(B_ROWS):
                    if r[j] > r[m]:
                        losses.append(max(d[j] - d[m] + 0.2 * (r[j] - r[m]) / r[i], 0))
        total += np.mean(losses)
    return total + 0.1 * sum(quan(h[name], consensus(bank)) for name in h)


def plain_dchmt(h, bank):
    def loss(a, b):
        def value(i, j, f, g):
            d = norm(f - g) / 2
            return d**2 if share(ROWS[i], ROWS[j]) else max((K / 2) ** 0.5 - d, 0) ** 2

        return pairs_mean(a, b, value) / K

    return loss(h["image"], h["text"]) + loss(h["image"], h["image"]) + loss(h["text"], h["text"])


def plain_dsph(h, bank, proxies):
    positive, negative, apart = [], [], []
    stacked = [(row, code) for name in ("image", "text") for row, code in zip(ROWS, h[name], strict=True)]
    for row, code in stacked:
        for c, proxy in enumerate(proxies):
            if LABELS[row, c]:
                positive.append(1 - cos(code, proxy))
            else:
                negative.append(max(cos(code, proxy) - 0.2, 0))
        apart += [max(cos(code, rival) - 0.2, 0) for there, rival in stacked if not share(row, there)]
    return np.mean(positive) + np.mean(negative) + np.mean(apart)


def plain_scahn(h, bank):
    scale, half, total = K / 32, B_ROWS // 2, 0.0
    for name, stacked in h.items():
        for code in stacked.swapaxes(0, 1):  # four stages and the fusion
            total += nll(bank[other(name)], code, scale) + nll(bank[name], code, scale)
            between = nll(code[:half], code[half:], scale, lambda i, j: share(ROWS[i], ROWS[half + j]))
            total += 0.01 * between
        total += 2 * quan(stacked[:, 4], consensus(bank))
    return total


def plain_mith(h, bank):
    """`h`: modality -> (refined, h_global, h_local, concepts), side by side in one array."""
    parts = {name: split_mith(value) for name, value in h.items()}
    detached = {name: split_mith(value) for name, value in plain_mith.constants.items()}
    B = bits(detached["image"][1] + detached["text"][1])
    total = 0.0
    for name, (_, h_global, h_local, _) in parts.items():
        total += nll(bank[name], h_local) + 10 * nll(bank[other(name)], h_global)
        total += 8 * quan(0.5 * h_global + 0.5 * h_local, B)
        total += ((h_local - detached[name][1]) ** 2).sum() / B_ROWS
        total += 0.1 * ((h_global - detached[name][2]) ** 2).sum() / B_ROWS
    total += 50 * info_nce(parts["image"][0], parts["text"][0], 0.07)
    concepts = [info_nce(parts["image"][3][:, j], parts["text"][3][:, j], 0.07) for j in range(K)]
    return total + 50 * 0.01 * np.mean(concepts)


def split_mith(value):
    refined, h_global, h_local, concepts = np.split(value, [3, 3 + K, 3 + 2 * K], axis=1)
    return refined, h_global, h_local, concepts.reshape(B_ROWS, K, 2)


def centered_cosines(values):
    centered = values - values.mean(axis=0)
    return np.array([[cos(a, b) for b in centered] for a in centered])


def plain_djsrh(h, bank, image_features, text_features):
    S = 0.6 * centered_cosines(image_features) + 0.4 * centered_cosines(text_features)
    S = 1.5 * (0.6 * S + 0.4 * S @ S.T / B_ROWS)

    def error(a, b):
        return np.mean([[(S[i, j] - cos(a[i], b[j])) ** 2 for j in range(B_ROWS)] for i in range(B_ROWS)])

    image, text = h["image"], h["text"]
    total = error(image, text) + 0.1 * (error(image, image) + error(text, text)) + info_nce(image, text, 0.2)
    return total + 0.1 * (quan(image, consensus(bank)) + quan(text, consensus(bank)))
