"""Mixed precision in training."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from math_hash.cli import main_py
from math_hash.methods.math import MATH
from math_hash.training import loop


@pytest.fixture
def own_precision():
    """One process may train in one precision only, so forget it before and after the test."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_in_bf16_weights_and_optimizer_state_stay_float32(own_precision, tiny_flags, tmp_path, monkeypatch):
    seen, types = [], set()
    prepare, outputs = loop.prepare_training, MATH.outputs

    def prepared(*arguments):
        seen.append(prepare(*arguments))
        return seen[0]

    def with_features(self, features, labels):
        types.add(features["image"].pooled.dtype)
        return outputs(self, features, labels)

    monkeypatch.setattr(loop, "prepare_training", prepared)
    monkeypatch.setattr(MATH, "outputs", with_features)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert main_py(["--is-train", *tiny_flags, "--epochs", "1", "--precision", "auto"]) == 0
    assert types == {torch.bfloat16}  # the products were in bf16
    [training] = seen
    assert {weight.dtype for weight in training.model.parameters()} == {torch.float32}
    moments = [
        value
        for optimizer in training.optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    ]
    assert len(moments) >= 2 * len([weight for weight in training.model.parameters() if weight.requires_grad])
    assert {value.dtype for value in moments} == {torch.float32}
    saved = load_file(tmp_path / "run/model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32, torch.int64}
    assert json.loads((tmp_path / "run/results.json").read_text())["precision"] == "bf16"
