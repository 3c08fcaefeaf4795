"""Properties that all methods share."""

import pytest
import torch
from methods.plain_pairs import B_ROWS, LABELS, N_ROWS, ROWS, TRAINED, D, K, build, features_of

from math_hash.encoders import Features
from math_hash.methods import METHODS, TrainingSet
from math_hash.training.distributed import gather_tree


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_nothing_overflows_in_half_precision(name, precision):
    """128 bits, under autocast, with codes at the ends of their range and with a row of zeros."""
    method = build(name, k=128)
    rows, labels = torch.from_numpy(ROWS), torch.from_numpy(LABELS)
    bank = {name: 3 * torch.ones(N_ROWS, width) for name, width in method.banks.items()}
    vectors = torch.randn(N_ROWS, D, generator=torch.Generator().manual_seed(1))
    method.prepare(TrainingSet(vectors, vectors.flip(0), labels))
    method.on_epoch(1, 2, bank)
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
