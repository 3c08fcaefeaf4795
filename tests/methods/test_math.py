"""MATH against plain transcriptions of its formulas, written here from scratch."""

import numpy as np
import pytest
import torch
from conftest import DEVICES
from methods.plain_local_head import per_token_per_bit
from torch.autograd import gradcheck

from math_hash.encoders import Features
from math_hash.methods.layers import fuse_with_batch, fuse_with_tokens, positions
from math_hash.methods.math import MATH, LocalHead, Stream
from math_hash.methods.objectives import info_nce, pairwise_likelihood, shared_label
from math_hash.training.distributed import gather_tree


def random_features(b, length, d, lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    padding = None if lengths is None else torch.arange(length) >= torch.tensor(lengths)[:, None]
    tokens = torch.randn(b, length, d, generator=generator)
    pooled = torch.randn(b, d, generator=generator)
    return Features(tokens, pooled, padding, batch=pooled)


@pytest.mark.parametrize("rows", [5, 40])  # on the CPU, more than 32 run in chunks
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_local_head_equals_a_loop_over_tokens_and_bits(masked, device, rows):
    torch.manual_seed(0)
    head = LocalHead(128, 20, 2).double().to(device)
    tokens = torch.randn(rows, 9, 128, dtype=torch.double, device=device)
    lengths = torch.tensor([9, 1, 4, 7, 2] * 8, device=device)[:rows]
    content = torch.arange(9, device=device) < lengths[:, None]
    everything = torch.ones_like(content)
    with torch.no_grad():
        found = head(tokens, content if masked else None)
        expected = per_token_per_bit(head, tokens, content if masked else everything)
    assert (found - expected).abs().max() < 1e-6


def test_masked_tokens_have_no_influence():
    head = LocalHead(64, 8, 2)
    tokens = torch.randn(2, 6, 64)
    content = torch.tensor([[True] * 3 + [False] * 3] * 2)
    other = torch.where(content[..., None], tokens, 9.0)
    assert torch.allclose(head(tokens, content), head(other, content), atol=1e-6)
    assert torch.allclose(head(tokens, content), head(tokens[:, :3]), atol=1e-6)


def test_positions_of_an_odd_width():
    assert positions(4, 7, torch.zeros(1)).shape == (4, 7)


def attend(query, values):
    scores = query @ values.T / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ values


def test_batch_fusion_attends_to_the_pooled_vectors_of_the_batch():
    image, text, label = (random_features(4, 3, 16, seed=s) for s in range(3))
    lab, img, txt = (f.pooled.numpy() for f in (label, image, text))
    found = fuse_with_batch(label, image, text).numpy()
    assert np.allclose(found, lab + attend(lab, img) + attend(lab, txt), atol=1e-5)


def test_token_fusion_attends_to_its_own_unpadded_tokens():
    image, text, label = (
        random_features(3, 4, 16),
        random_features(3, 6, 16, [6, 2, 4], 1),
        random_features(3, 2, 16, seed=2),
    )
    found = fuse_with_tokens(label, image, text).numpy()
    for row, length in enumerate([6, 2, 4]):
        lab = label.pooled[row].numpy()
        own = text.tokens[row, :length].numpy()
        assert np.allclose(found[row], lab + attend(lab, image.tokens[row].numpy()) + attend(lab, own), atol=1e-5)
    alone = fuse_with_tokens(
        *(
            Features(f.tokens[:1], f.pooled[:1], None if f.padding is None else f.padding[:1])
            for f in (label, image, text)
        )
    )
    assert np.allclose(alone.numpy(), found[:1], atol=1e-5)


def plain_objective(streams, labels, bank, bank_labels, weights):
    """Section by section of the objective, in NumPy, with loops over pairs."""
    alpha, beta, delta, gamma, lam = weights
    b, k = streams["image"].h_global.shape

    def nll(F, h):
        total = 0.0
        for i, f in enumerate(F):
            for j, code in enumerate(h):
                s = 0.5 * np.clip(f @ code, -64, 64)
                S = float((bank_labels[i] * labels[j]).sum() > 0)
                total += np.log1p(np.exp(-abs(s))) + max(s, 0) - S * s
        return total / (len(F) * len(h))

    def nce(a, c):
        a, c = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, c))
        loss = 0.0
        for logits in (a @ c.T / 0.07, c @ a.T / 0.07):
            for i, line in enumerate(logits):
                loss += (np.log(np.exp(line - line.max()).sum()) + line.max() - line[i]) / (2 * b)
        return loss

    h = {m: s.h_global for m, s in streams.items()}
    B = np.where(sum(h.values()) >= 0, 1.0, -1.0)
    refined = {m: s.refined for m, s in streams.items()}
    return {
        "intra": alpha * sum(nll(bank[m], h[m]) for m in h),
        "inter": beta * sum(nll(bank[a], h[c]) for a in h for c in h if a != c),
        "MSE": delta * sum(((s.h_global - s.h_local) ** 2).sum() / b for s in streams.values()),
        "quan": gamma * sum(((0.5 * s.h_global + 0.5 * s.h_local - B) ** 2).sum() / (b * k) for s in streams.values()),
        "contrast": lam
        * (
            nce(refined["image"], refined["label"])
            + nce(refined["text"], refined["label"])
            + nce(refined["image"], refined["text"])
        ),
    }


def random_streams(b=6, d=10, k=12, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        name: Stream(draw(b, d), torch.tanh(draw(b, k)), torch.tanh(draw(b, k))) for name in ("image", "text", "label")
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("device", DEVICES)
def test_objective_equals_a_plain_transcription(seed, device):
    rng = np.random.default_rng(seed)
    head = MATH(64, 12, hyper_intra=4, hyper_inter=13, hyper_MSE=5, hyper_quan=7, hyper_contrast=57)
    streams = random_streams(seed=seed)
    bank_labels, rows = rng.integers(0, 2, (9, 5)), rng.permutation(9)[:6]
    labels = bank_labels[rows]
    bank = {name: torch.from_numpy(9 * rng.normal(size=(9, 12))) for name in streams}  # far enough for the clamp
    found = head.loss_terms(
        {name: Stream(*(x.to(device) for x in stream)) for name, stream in streams.items()},
        {name: value.to(device) for name, value in bank.items()},
        torch.from_numpy(bank_labels).to(device),
        torch.from_numpy(rows).to(device),
    )
    plain = {name: Stream(*(x.numpy() for x in stream)) for name, stream in streams.items()}
    expected = plain_objective(plain, labels, {n: v.numpy() for n, v in bank.items()}, bank_labels, (4, 13, 5, 7, 57))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-5, rel=1e-5)


def test_shared_functions_have_the_gradients_of_finite_differences():
    rng = torch.Generator().manual_seed(0)
    a, c = (torch.randn(4, 5, generator=rng, dtype=torch.double, requires_grad=True) for _ in range(2))
    S = (torch.rand(4, 4, generator=rng) < 0.5).double()
    assert gradcheck(info_nce, (a, c))
    assert gradcheck(lambda h: pairwise_likelihood(a.detach(), h, S), (c,))


def test_the_teacher_of_the_squared_error_gets_no_gradient():
    head = MATH(64, 12, hyper_intra=0, hyper_inter=0, hyper_MSE=5, hyper_quan=0, hyper_contrast=0)
    streams = {name: Stream(*(x.requires_grad_() for x in stream)) for name, stream in random_streams().items()}
    labels = torch.ones(6, 2)
    terms = head.loss_terms(streams, head.bank_codes(streams), labels, torch.arange(6))
    terms["MSE"].backward()
    assert streams["image"].h_global.grad is None
    assert streams["image"].h_local.grad.abs().sum() > 0


def test_similarity_is_one_shared_label():
    labels = torch.tensor([[1, 1, 0], [0, 0, 1]], dtype=torch.uint8)
    others = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=torch.uint8)
    assert shared_label(labels, others).tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("fusion", ["batch", "token"])
def test_codes_of_images_and_texts_need_nothing_else(fusion):
    torch.manual_seed(0)
    head = MATH(64, 10, fusion=fusion).eval()
    image, text, label = (
        random_features(4, 3, 64),
        random_features(4, 5, 64, [5, 2, 3, 4], 1),
        random_features(4, 5, 64, [2, 3, 2, 5], 2),
    )
    with torch.no_grad():
        outputs = head.outputs({"image": image, "text": text, "label": label}, torch.ones(4, 2))
        assert torch.equal(outputs["image"].code, head.hash_image(image))
        assert torch.equal(outputs["text"].code, head.hash_text(text))
    assert head.hash_image(image).abs().max() < 1


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_no_nan_at_128_bits_in_low_precision(precision):
    torch.manual_seed(0)
    head = MATH(64, 128)
    features = [random_features(8, 5, 64, [5, 2, 3, 4, 5, 1, 2, 3], seed) for seed in range(3)]
    with torch.autocast("cpu", dtype=precision):
        streams = dict(zip(head.streams, features, strict=True))
        labels = torch.randint(0, 2, (8, 4))
        outputs = gather_tree(head.outputs(streams, labels), 8)
    loss = sum(head.loss_terms(outputs, head.bank_codes(outputs), labels, torch.arange(8)).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
