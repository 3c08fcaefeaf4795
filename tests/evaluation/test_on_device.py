"""Codes on a GPU are ranked there, with the same numbers as the compiled kernels give."""

import importlib

import numpy as np
import pytest
import torch

from math_hash.evaluation import average_precision, mean_average_precision, on_device
from math_hash.hamming.codes import pack

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
QUERIES, ROWS, K_BITS = 20, 900, 20
TIES = ["index", "optimistic", "pessimistic", "expected"]


@pytest.fixture
def ranked_by_torch(monkeypatch):
    """Treats all codes as if they were on a GPU; records the sizes of the tensors that become NumPy arrays."""
    module = importlib.import_module("math_hash.evaluation.average_precision")
    monkeypatch.setattr(module, "lies_on_accelerator", lambda codes: isinstance(codes, torch.Tensor))
    sizes = []

    def watched(function):
        def call(tensor, *arguments, **options):
            sizes.append(tensor.numel())
            return function(tensor, *arguments, **options)

        return call

    for name in ("cpu", "numpy", "__array__", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, watched(getattr(torch.Tensor, name)))
    return sizes


def make_task(device="cpu"):
    rng = np.random.default_rng(0)
    bits, labels = rng.integers(0, 2, (ROWS, K_BITS)), (rng.random((ROWS, 4)) < 0.3).astype(int)
    arrays = pack(bits[:QUERIES]), pack(bits), labels[:QUERIES], labels
    return arrays, tuple(torch.from_numpy(values).to(device) for values in arrays)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("normalizer", ["lineage", "hits", "min"])
def test_the_gpu_path_gives_the_same_numbers(device, ties, normalizer):
    arrays, tensors = make_task(device)
    task = on_device.prepare_on_device(*tensors, K_BITS, 1, None)
    precision, relevant = on_device.average_precision(task, 15, normalizer, ties)
    options = {"top_k": 15, "normalizer": normalizer, "ties": ties, "k_bits": K_BITS}
    expected = average_precision(*arrays, **options)
    assert np.allclose(precision, expected, atol=1e-12)
    assert relevant.tolist() == (arrays[2] @ arrays[3].T > 0).sum(1).tolist()
    assert np.allclose(average_precision(*tensors, **options), expected, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", TIES)
def test_codes_and_labels_stay_on_their_device(ranked_by_torch, device, ties):
    arrays, tensors = make_task(device)
    precision = average_precision(*tensors, ties=ties, k_bits=K_BITS)
    assert 0 < max(ranked_by_torch) <= QUERIES * 2 * (K_BITS + 1) < tensors[1].numel()
    assert np.allclose(precision, average_precision(*arrays, ties=ties, k_bits=K_BITS), atol=1e-12)
    ranked_by_torch.clear()
    mean = mean_average_precision(*tensors, ties=ties, k_bits=K_BITS)
    assert 0 < max(ranked_by_torch) < tensors[1].numel()
    assert mean == pytest.approx(precision.mean())


@pytest.mark.parametrize("device", DEVICES)
def test_ranking_in_many_blocks_of_queries_changes_nothing(ranked_by_torch, monkeypatch, device):
    _, tensors = make_task(device)
    whole = {ties: average_precision(*tensors, ties=ties, k_bits=K_BITS) for ties in TIES}
    monkeypatch.setattr(on_device, "_BYTES_AT_ONCE", 3 * 40 * ROWS)
    for ties in TIES:
        precision = average_precision(*tensors, ties=ties, k_bits=K_BITS)
        assert np.allclose(precision, whole[ties], rtol=0, atol=1e-12 if device == "cuda" else 0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_relevance_from_the_caller_and_queries_without_relevant_rows(ranked_by_torch, device):
    arrays, tensors = make_task(device)
    arrays[2][3], tensors[2][3] = 0, 0
    for options in (
        {"relevance": lambda q, d: (q @ d.T) * (q[:, :1] == 1)},
        {"no_relevant": "skip"},
        {"min_shared": 2, "top_k": 30},
    ):
        expected = average_precision(*arrays, k_bits=K_BITS, **options)
        precision = average_precision(*tensors, k_bits=K_BITS, **options)
        assert np.allclose(precision, expected, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
def test_forms_of_codes_agree_on_a_device(ranked_by_torch, device):
    rng = np.random.default_rng(0)
    bits, labels = rng.random((30, 20)) < 0.5, rng.integers(0, 2, (30, 4))
    expected = average_precision(bits[:5], bits, labels[:5], labels)
    truth = torch.from_numpy(labels).to(device)
    signs = torch.from_numpy(np.where(bits, 1.0, -1.0)).to(device)
    for codes in (signs, signs.half(), signs > 0, (signs > 0).int(), torch.from_numpy(pack(bits)).to(device)):
        precision = average_precision(codes[:5], codes, truth[:5], truth, k_bits=20)
        assert np.allclose(precision, expected, atol=1e-12)
    mixed = average_precision(bits[:5], signs, labels[:5], truth)  # the database's device decides
    assert np.allclose(mixed, expected, atol=1e-12)
