"""The blocks against open_clip's own forward pass."""

import pytest
import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import nn

from math_hash.encoders.blocks import padding_mask, run_blocks

WIDTH, HEADS, LENGTH = 64, 4, 11


def transformer(act=QuickGELU, layers=3, **options):
    torch.manual_seed(0)
    made = Transformer(WIDTH, layers, HEADS, act_layer=act, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.double()


def padded(batch):
    lengths = torch.arange(batch) % LENGTH + 1
    return torch.arange(LENGTH) >= lengths[:, None]


@pytest.mark.parametrize("act", [QuickGELU, nn.GELU])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_states_and_gradients_equal_open_clips(act, masked, checkpointing):
    model = transformer(act, ls_init_value=0.5)
    states = torch.randn(6, LENGTH, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = padding_mask(padded(6), torch.float64) if masked else None
    theirs = mask.expand(-1, HEADS, LENGTH, -1).reshape(-1, LENGTH, LENGTH) if masked else None
    weight = torch.randn(6, LENGTH, WIDTH, dtype=torch.float64)
    wanted, between = model.forward_intermediates(states, theirs, indices=[1])
    (wanted * weight).sum().backward()
    gradients = [states.grad, *(p.grad for p in model.parameters())]
    states.grad = None
    model.zero_grad()
    model.grad_checkpointing = checkpointing
    found, depths = run_blocks(model, states, mask, [1])
    (found * weight).sum().backward()
    assert torch.allclose(found, wanted, atol=1e-12)
    assert torch.allclose(depths[1], between[0], atol=1e-12)
    for one, other in zip([states.grad, *(p.grad for p in model.parameters())], gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(run_blocks(model, states, mask)[0], found)


@pytest.mark.parametrize("trained", [("ln_1.weight", "c_fc.bias"), ("0.ln_2.bias",), ("2.mlp.c_proj.weight",)])
def test_frozen_parts_get_no_gradients(trained):
    model = transformer()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(trained))
    states = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    run_blocks(model, states)[0].square().sum().backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model(states).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (found[name] is None) == (parameter.grad is None)
        assert parameter.grad is None or torch.allclose(found[name], parameter.grad, atol=1e-10)


def test_autocast_gives_the_gradients_of_the_plain_blocks_in_bf16():
    model = transformer().float()
    states = torch.randn(4, LENGTH, WIDTH)
    gradients = []
    for run in (model, lambda value: run_blocks(model, value)[0]):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = run(states)
        out.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    one, other = gradients
    assert (one - other).norm() / other.norm() < 0.02


def kept_bytes(run):
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for size, _ in seen.values())


def test_half_of_the_memory_is_kept_for_gradients():
    model, states = transformer(), torch.randn(64, LENGTH, WIDTH, dtype=torch.float64, requires_grad=True)
    parameters = sum(p.nbytes for p in model.parameters())
    ours, plain = (kept_bytes(lambda f=f: f(states)) - parameters for f in (lambda s: run_blocks(model, s), model))
    assert ours < 0.5 * plain
