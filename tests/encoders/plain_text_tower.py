"""CLIP's text tower as plain loops, and texts to try it on."""

import torch

TEXTS = ["two dogs on a beach", "", "a much longer text " * 20, "!!! wow !"]


def plain_text_tower(model, ids):
    """One text and one query token at a time: each attends to earlier tokens that are not padding."""
    rows = []
    for row in ids:
        length, end = len(row), int(row.argmax())
        x = model.token_embedding(row) + model.positional_embedding[:length]
        allowed = torch.tensor([[key <= query and key <= end for key in range(length)] for query in range(length)])
        for block in model.transformer.resblocks:
            normed = block.ln_1(x)
            q, k, v = (normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
            weights = (q @ k.T / q.shape[-1] ** 0.5).masked_fill(~allowed, float("-inf")).softmax(-1)
            x = x + block.attn.out_proj(weights @ v)
            inner = block.mlp.c_fc(block.ln_2(x))
            x = x + block.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))
        rows.append(model.ln_final(x) @ model.text_projection)
    return torch.stack(rows)
