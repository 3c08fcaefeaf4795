"""DCHMT: bits as choices between two classes."""

import torch
from methods.plain_pairs import D, K, build


def test_dchmt_takes_the_bit_with_the_greater_probability():
    head = build("DCHMT").heads["image"]
    vectors = torch.randn(20, D)
    logits = head.layers(vectors).unflatten(-1, (K, 2))
    assert ((head(vectors) >= 0) == (logits.argmax(dim=-1) == 0)).all()
