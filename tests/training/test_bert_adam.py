from math import cos, pi, sqrt

import numpy as np
import pytest
import torch
from conftest import DEVICES

from math_hash.training.bert_adam import BertAdam


@pytest.mark.parametrize("device", DEVICES)
def test_fifty_steps_equal_a_scalar_transcription(device):
    rng = np.random.default_rng(0)
    shapes, steps, warmup, decay = [(3, 2), (4,), ()], 50, 0.1, 0.01
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) * 10 ** rng.uniform(-2, 1) for shape in shapes] for _ in range(steps)]

    params = [torch.nn.Parameter(torch.tensor(value, device=device)) for value in start]
    groups = [{"params": params[:2], "lr": 0.05}, {"params": params[2:], "lr": 0.001}]
    optimizer = BertAdam(groups, lr=1.0, total_steps=steps, warmup=warmup, weight_decay=decay)
    for step in range(steps):
        for parameter, gradient in zip(params, gradients[step], strict=True):
            parameter.grad = torch.tensor(gradient, device=device)
        optimizer.step()

    for place, (parameter, lr) in enumerate(zip(params, (0.05, 0.05, 0.001), strict=True)):
        p = start[place].reshape(-1).tolist()
        m, v = [0.0] * len(p), [0.0] * len(p)
        for step in range(steps):
            g = gradients[step][place].reshape(-1).tolist()
            norm = sqrt(sum(x * x for x in g))
            scale = min(1.0, 1.0 / (norm + 1e-6))
            x = step / steps
            rate = lr * (x / warmup if x < warmup else 0.5 * (1 + cos(pi * x)))
            for i in range(len(p)):
                clipped = g[i] * scale
                m[i] = 0.9 * m[i] + 0.1 * clipped
                v[i] = 0.98 * v[i] + 0.02 * clipped**2
                p[i] -= rate * (m[i] / (sqrt(v[i]) + 1e-6) + decay * p[i])
        assert np.allclose(parameter.detach().cpu().numpy().reshape(-1), p, atol=1e-12)


def test_state_survives_saving_and_loading():
    def run(steps, state=None):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = BertAdam([parameter], lr=0.1, total_steps=10)
        if state:
            optimizer.load_state_dict(state["optimizer"])
            parameter.data.copy_(state["parameter"])
        for _ in range(steps):
            parameter.grad = parameter.detach() ** 2
            optimizer.step()
        return {"optimizer": optimizer.state_dict(), "parameter": parameter.detach().clone()}

    assert torch.equal(run(6)["parameter"], run(2, run(4))["parameter"])


def test_parameters_without_gradient_stay():
    kept = torch.nn.Parameter(torch.ones(2))
    moved = torch.nn.Parameter(torch.ones(2))
    optimizer = BertAdam([kept, moved], lr=0.1, total_steps=4, warmup=0.0)
    moved.grad = torch.ones(2)
    optimizer.step()
    assert kept.tolist() == [1, 1]
    assert (moved < 1).all()
