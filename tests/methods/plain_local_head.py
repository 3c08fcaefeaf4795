"""MATH's local head as plain loops."""

import numpy as np
import torch


def per_token_per_bit(head, tokens, content):
    """h_local of each sample and each bit in loops, with attention written out."""
    d, heads = tokens.shape[-1], max(tokens.shape[-1] // 64, 1)
    place = np.arange(tokens.shape[1])[:, None]
    rate = 10000.0 ** (-np.arange(0, d, 2) / d)
    table = np.zeros((tokens.shape[1], d))
    table[:, 0::2], table[:, 1::2] = np.sin(place * rate), np.cos(place * rate)
    codes = []
    for sample, keep in zip(tokens, content, strict=True):
        x = sample + torch.from_numpy(table / np.sqrt(d)).to(sample)
        for block in head.transformer.resblocks:
            qkv = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
            q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in qkv.chunk(3, dim=-1))
            scores = (q @ k.transpose(1, 2) / (d // heads) ** 0.5).masked_fill(~keep, float("-inf"))
            x = x + block.attn.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), d))
            inner = block.mlp.c_fc(block.ln_2(x))
            x = x + block.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))
        bits = []
        for weight, bias in zip(head.projection.weight, head.projection.bias, strict=True):
            values = [(token * weight).sum() + bias for token, counts in zip(x, keep, strict=True) if counts]
            bits.append(torch.tanh(sum(values) / len(values)))
        codes.append(torch.stack(bits))
    return torch.stack(codes)
