"""The objective of every method against a plain transcription by loops, and what all methods have in common."""

import numpy as np
import pytest
import torch
from numpy.linalg import norm

from math_hash import InputError
from math_hash.encoders import Features
from math_hash.methods import METHODS, complete_options
from math_hash.methods.djsrh import Outputs as DjsrhOutputs
from math_hash.methods.mith import Outputs as MithOutputs
from math_hash.methods.mith import concept_weights
from math_hash.methods.scahn import Outputs as ScahnOutputs
from math_hash.models.bit_order import bit_significance_order
from math_hash.training.distributed import gather_tree

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


def bits(values):
    return np.where(values >= 0, 1.0, -1.0)


def share(i, j):
    return float(LABELS[i] @ LABELS[j] > 0)


def jaccard(i, j):
    both = LABELS[i] @ LABELS[j]
    return both / (LABELS[i].sum() + LABELS[j].sum() - both)


def label_cosine(i, j):
    return LABELS[i] @ LABELS[j] / norm(LABELS[i]) / norm(LABELS[j])


def cos(a, b):
    return a @ b / norm(a) / norm(b)


def nll(F, h, scale=1.0, S=lambda i, j: share(i, ROWS[j])):
    total = 0.0
    for i, f in enumerate(F):
        for j, code in enumerate(h):
            s = 0.5 * np.clip(f @ code / scale, -64, 64)
            total += np.log1p(np.exp(s)) - S(i, j) * s
    return total / (len(F) * len(h))


def pairs_mean(F, h, value):
    return np.mean([[value(i, j, F[i], h[j]) for j in range(len(h))] for i in range(len(F))])


def quan(h, B):
    return sum((h[i, j] - B[i, j]) ** 2 for i in range(len(h)) for j in range(h.shape[1])) / h.size


def consensus(bank):
    return bits(sum(bank.values()))[ROWS]


def other(name):
    return "text" if name == "image" else "image"


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


def info_nce(a, b, temperature):
    total = 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(len(x)):
            logits = [cos(x[i], y[j]) / temperature for j in range(len(y))]
            total += np.log(sum(np.exp(logits))) - logits[i]
    return total / (2 * len(a))


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


def centred_cosines(values):
    centred = values - values.mean(axis=0)
    return np.array([[cos(a, b) for b in centred] for a in centred])


def plain_djsrh(h, bank, image_features, text_features):
    S = 0.6 * centred_cosines(image_features) + 0.4 * centred_cosines(text_features)
    S = 1.5 * (0.6 * S + 0.4 * S @ S.T / B_ROWS)

    def error(a, b):
        return np.mean([[(S[i, j] - cos(a[i], b[j])) ** 2 for j in range(B_ROWS)] for i in range(B_ROWS)])

    image, text = h["image"], h["text"]
    total = error(image, text) + 0.1 * (error(image, image) + error(text, text)) + info_nce(image, text, 0.2)
    return total + 0.1 * (quan(image, consensus(bank)) + quan(text, consensus(bank)))


def codes(width=K, seed=5):
    return np.tanh(np.random.default_rng(seed).normal(size=(B_ROWS, width)))


def case(name, turn):
    """The method, its outputs from plain arrays, the arrays (stream -> values), and the plain objective."""
    method, plain = build(name), globals()[f"plain_{name.lower()}"]
    arrays = {stream: codes(seed=place) for place, stream in enumerate(turn)}

    def outputs(values):
        return values

    if name == "SCAHN":
        arrays = {stream: codes(5 * K, place).reshape(B_ROWS, 5, K) for place, stream in enumerate(turn)}

        def outputs(values):
            return {stream: ScahnOutputs(value[:, :4], value[:, 4]) for stream, value in values.items()}

    elif name == "MITH":
        arrays = {stream: codes(3 + 4 * K, place) for place, stream in enumerate(turn)}
        plain_mith.constants = {stream: value.copy() for stream, value in arrays.items()}

        def outputs(values):
            cut = {stream: value.split([3, K, K, 2 * K], dim=1) for stream, value in values.items()}
            return {stream: MithOutputs(*parts[:3], parts[3].unflatten(1, (K, 2))) for stream, parts in cut.items()}

    elif name == "DSPH":
        proxies = method.proxies.detach().numpy().astype(float)

        def plain(h, bank):
            return plain_dsph(h, bank, proxies)

    elif name == "DJSRH":
        vectors = [np.random.default_rng(place).normal(size=(B_ROWS, 8)) for place in (3, 4)]

        def outputs(values):
            return DjsrhOutputs(*map(torch.tensor, vectors), values["image"], values["text"])

        def plain(h, bank):
            return plain_djsrh(h, bank, *vectors)

    return method, outputs, arrays, plain


CASES = [(name, turn) for name in TRAINED if name != "MATH" for turn in METHODS[name].turns]


@pytest.mark.parametrize(("name", "turn"), CASES, ids=[f"{name}-{'-'.join(turn)}" for name, turn in CASES])
def test_the_objective_and_its_gradient_equal_loops_over_pairs(name, turn):
    method, outputs, arrays, plain = case(name, turn)
    rng = np.random.default_rng(9)
    bank = {stream: np.tanh(rng.normal(size=(N_ROWS, K))) for stream in method.streams}
    values = {stream: torch.tensor(array, requires_grad=True) for stream, array in arrays.items()}
    terms = method.loss_terms(
        outputs(values),
        {stream: torch.tensor(array) for stream, array in bank.items()},
        torch.tensor(LABELS),
        torch.tensor(ROWS),
    )
    found = sum(terms.values())
    assert float(found.detach()) == pytest.approx(plain(arrays, bank), rel=1e-5)
    found.backward()
    for stream, array in arrays.items():
        for place in rng.choice(array.size, 12, replace=False):
            at = np.unravel_index(place, array.shape)
            slopes = []
            for step in (1e-5, -1e-5):
                moved = {other_stream: value.copy() for other_stream, value in arrays.items()}
                moved[stream][at] += step
                slopes.append(plain(moved, bank))
            slope = (slopes[0] - slopes[1]) / 2e-5
            assert float(values[stream].grad[at]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_mlsph_centered():
    method = build("MLSPH", centered=True)
    rng = np.random.default_rng(9)
    bank = {stream: np.tanh(rng.normal(size=(N_ROWS, K))) for stream in method.streams}
    h = {"image": codes()}
    terms = method.loss_terms(
        {"image": torch.tensor(h["image"])},
        {name: torch.tensor(v) for name, v in bank.items()},
        torch.tensor(LABELS),
        torch.tensor(ROWS),
    )
    assert float(sum(terms.values())) == pytest.approx(plain_mlsph(h, bank, centered=True), rel=1e-5)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_nothing_overflows_in_half_precision(name, precision):
    """128 bits, under autocast, with codes at their ends and with a row of zeros."""
    method = build(name, k=128)
    rows, labels = torch.from_numpy(ROWS), torch.from_numpy(LABELS)
    bank = {stream: 3 * torch.ones(N_ROWS, 128) for stream in method.streams}
    given = features_of(B_ROWS)
    for stream in given.values():
        stream.pooled *= 30
        stream.pooled[0] = 0
    for turn in method.turns:
        with torch.autocast("cpu", dtype=precision):
            features = {stream: given[stream] for stream in turn}
            if "label" in features and not method.needs.label_text:
                features["label"] = Features(None, labels[rows].float())
            outputs = gather_tree(method.outputs(features, labels[rows]), B_ROWS)
        for stream, value in method.bank_codes(outputs).items():
            bank[stream][rows] = value.detach()
        loss = sum(method.loss_terms(outputs, bank, labels, rows).values())
        assert loss.isfinite()
        loss.backward()
    for weights in method.parameters():
        assert weights.grad is None or weights.grad.isfinite().all()


@pytest.mark.parametrize("name", list(METHODS))
def test_one_modality_is_hashed_alone_and_row_by_row(name):
    method, given = build(name), features_of(9)
    if not method.trained_by_gradient:
        method.fit(torch.randn(50, D), torch.randn(50, D), seed=1)
    method.eval()
    for hash_one, features in ((method.hash_image, given["image"]), (method.hash_text, given["text"])):
        with torch.no_grad():
            whole = hash_one(features)
            parts = (features.tokens, features.pooled, features.padding, features.stages)
            alone = hash_one(Features(*(None if part is None else part[2:3] for part in parts)))
        assert whole.shape == (9, K)
        assert torch.allclose(alone, whole[2:3], atol=1e-5)


def test_dchmt_takes_the_bit_with_the_greater_probability():
    head = build("DCHMT").heads["image"]
    vectors = torch.randn(20, D)
    logits = head.layers(vectors).unflatten(-1, (K, 2))
    assert ((head(vectors) >= 0) == (logits.argmax(dim=-1) == 0)).all()


def test_tokens_are_averaged_over_the_concepts_that_they_select():
    spoken = torch.tensor([[[0.9, 0.1, -0.5], [0.8, -0.2, 0.3], [0.99, 0.98, 0.97]]])
    content = torch.tensor([[True, True, False]])
    weights = concept_weights(spoken, content, top_concepts=1)[0]
    e = np.exp([0.9, 0.8])
    assert np.allclose(weights[0], [*(e / e.sum()), 0])  # both tokens that count select the first concept
    e = np.exp([0.1, -0.2])
    assert np.allclose(weights[1], [*(e / e.sum()), 0])  # nobody selects the second: all tokens that count
    assert np.allclose(weights.sum(dim=1), 1)


def test_itq_loses_less_than_pca_and_pca_is_scikit_learns():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(400, 8)) @ rng.normal(size=(8, D))
    image, text = torch.tensor(mixed + 0.1 * rng.normal(size=mixed.shape)).float(), torch.tensor(mixed).float()
    lost = {}
    for name in ("PCA", "ITQ"):
        method = build(name)
        method.fit(image, text, seed=3)
        unit = torch.nn.functional.normalize(image, dim=-1) - method.means[0]
        projected = (unit @ method.projection).numpy()
        lost[name] = np.square(bits(projected) - projected / norm(projected) * np.sqrt(projected.size)).sum()
        again = build(name)
        again.fit(image, text, seed=3)
        assert torch.equal(again.projection, method.projection)
    assert lost["ITQ"] < lost["PCA"]
    stacked = np.concatenate(
        [v - v.mean(axis=0) for v in (torch.nn.functional.normalize(m, dim=-1).numpy() for m in (image, text))]
    )
    principal = np.linalg.svd(stacked.astype(float), full_matrices=False)[2][:K]
    method = build("PCA")
    method.fit(image, text, seed=0)
    assert np.allclose(np.abs((method.projection.numpy().T * principal).sum(axis=1)), 1, atol=1e-3)
    with pytest.raises(InputError, match="width 64 have no more than 64"):
        build("ITQ", k=65).fit(image, text, seed=0)


def test_significant_bits_come_first_and_equal_the_plain_selection():
    rng = np.random.default_rng(2)
    labels = np.eye(3)[rng.integers(0, 3, 60)]
    good = np.where(labels, 1, -1)[:, [0, 1, 2, 0]]  # the last one repeats the first
    noisy = np.where(rng.random((60, 4)) < 0.3, -good, good)
    image = np.concatenate([noisy, good, rng.normal(size=(60, 2))], axis=1)
    text = np.concatenate([noisy, good, rng.normal(size=(60, 2))], axis=1)
    found = bit_significance_order(*map(torch.tensor, (image, text, labels))).tolist()
    x, y, S = bits(image), bits(text), labels @ labels.T > 0
    chosen = []
    for _ in range(10):
        scores = {
            t: np.corrcoef((x[:, [*chosen, t]] @ y[:, [*chosen, t]].T).ravel(), S.ravel())[0, 1]
            for t in range(10)
            if t not in chosen
        }
        chosen.append(max(scores, key=scores.get))
    assert found[:6] == chosen[:6]
    assert set(found[:3]) <= {4, 5, 6, 7}
    assert sorted(found) == list(range(10))
