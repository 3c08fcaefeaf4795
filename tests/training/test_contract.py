"""What the loop does for a method beyond its loss: prepare, on_epoch, parameter groups, several banks per stream."""

import json

import pytest
import torch
from torch import nn

import math_hash
from math_hash.cli import main_py
from math_hash.methods import PooledMethod
from math_hash.methods.objectives import pairwise_likelihood, shared_label

REFERENCE = f"{__name__}:Busy"
calls: list = []


class Busy(PooledMethod):
    """Uses everything that a method may use."""

    def __init__(self, width: int, k_bits: int, num_labels: int, *, rate: float = 0.5):
        super().__init__(width, k_bits, hidden=32)
        self.rate = rate
        self.proxies = nn.Parameter(torch.randn(num_labels, k_bits))
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(width))

    @property
    def banks(self):
        return super().banks | {"image second": self.k_bits}

    def prepare(self, training):
        calls.append(("prepare", tuple(training.image.shape), tuple(training.text.shape), tuple(training.labels.shape)))
        self.mean.copy_(training.image.mean(dim=0))

    def on_epoch(self, epoch, epochs, bank):
        assert set(bank) == set(self.banks)
        calls.append(("epoch", epoch, epochs))

    def parameter_groups(self):
        sgd = {"params": [self.proxies], "optimizer": torch.optim.SGD, "lr": self.rate, "momentum": 0.9}
        return [sgd, {"params": [self.scale], "lr": 0.0, "weight_decay": 0.0}]

    def bank_codes(self, outputs):
        return {**outputs, "image second": -outputs["image"]}

    def loss_terms(self, outputs, bank, bank_labels, rows):
        S = shared_label(bank_labels, bank_labels[rows])
        assert torch.equal(bank["image second"][rows], -bank["image"][rows])
        near = pairwise_likelihood(bank["image second"], -outputs["image"], S)
        far = pairwise_likelihood(bank["image"], outputs["text"], S)
        return {"near": near, "far": far, "proxies": self.scale * self.proxies.square().mean()}


@pytest.fixture
def flags(tiny_flags):
    calls.clear()
    return ["--is-train", *tiny_flags, "--method", REFERENCE]


def test_the_loop_calls_prepare_and_on_epoch_and_keeps_groups_and_banks(flags, tmp_path):
    assert main_py(flags) == 0
    assert calls == [("prepare", (31, 64), (31, 64), (31, 3)), ("epoch", 1, 2), ("epoch", 2, 2)]
    model = math_hash.load_model(tmp_path / "run")
    assert model.head.mean.abs().sum() > 0
    assert model.head.scale.item() == 1  # its own learning rate is 0
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert set(state["bank"]) == {"image", "text", "image second"}
    assert [group["lr"] for group in state["optimizer"]["param_groups"]][2:] == [0.0]
    (other,) = state["other_optimizers"]
    assert other["param_groups"][0]["momentum"] == 0.9
    assert other["state"][0]["momentum_buffer"].shape == (3, 12)
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(record["losses"]) == {"near", "far", "proxies"}
    assert record["clip_lr"] is not None


def test_a_parameter_group_can_have_an_optimizer_of_its_own(flags, tmp_path):
    """Ten steps of gradient descent with momentum on mean(p^2) alone."""
    assert main_py([*flags, "--set", "rate=0.1", "--freeze-encoder"]) == 0
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    torch.manual_seed(0)
    final = state["model"]["head.proxies"]
    proxies = start = None
    velocity = torch.zeros(3, 12)
    # the recursion is linear in the start, so that one factor leads from it to the end
    p, v = 1.0, 0.0
    for _ in range(2 * 4):
        v = 0.9 * v + 2 * p / 36
        p -= 0.1 * v
    start = final / p
    proxies = start.clone()
    for _ in range(2 * 4):
        velocity = 0.9 * velocity + 2 * proxies / 36
        proxies = proxies - 0.1 * velocity
    assert torch.allclose(proxies, final, atol=1e-6)
    recorded = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert recorded[0]["losses"]["proxies"] > recorded[1]["losses"]["proxies"]
    assert recorded[0]["losses"]["proxies"] < float(start.square().mean())


def test_a_run_is_prepared_again_before_it_is_resumed(flags, tmp_path):
    assert main_py(flags) == 0
    calls.clear()
    assert main_py(["--resume", str(tmp_path / "run")]) == 0
    assert [call[0] for call in calls] == ["prepare"]
