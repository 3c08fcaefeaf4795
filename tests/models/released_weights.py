"""Checkpoints as the MATH release saves them, with random values."""

import torch

BITS, WIDTH = 20, 64


def released_state(clip, seed=0):
    """A checkpoint with the names and shapes that the release saves, random values."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.2 * torch.randn(*shape, generator=generator)

    state = {f"clip.{name}": value for name, value in clip.state_dict().items()}
    shared = {"common_concept_embedding.weight": draw(BITS, WIDTH)}
    for n in range(2):
        shared |= {f"mlp.mlps.{n}.0.weight": draw(4 * WIDTH, WIDTH), f"mlp.mlps.{n}.0.bias": draw(4 * WIDTH)}
        shared |= {f"mlp.mlps.{n}.3.weight": draw(WIDTH, 4 * WIDTH), f"mlp.mlps.{n}.3.bias": draw(WIDTH)}
        shared |= {f"mlp.lns.{n}.weight": 1 + draw(WIDTH), f"mlp.lns.{n}.bias": draw(WIDTH)}
    for stream in "itl":
        state |= {f"hash.gcl_{stream}.{name}": value for name, value in shared.items()}
        own = {"position.pe": draw(64, 1, WIDTH)}
        for n in range(2):
            block = f"transformer.resblocks.{n}."
            own |= {block + "attn.in_proj_weight": draw(3 * WIDTH, WIDTH), block + "attn.in_proj_bias": draw(3 * WIDTH)}
            own |= {block + "attn.out_proj.weight": draw(WIDTH, WIDTH), block + "attn.out_proj.bias": draw(WIDTH)}
            own |= {block + f"ln_{i}.weight": 1 + draw(WIDTH) for i in (1, 2)}
            own |= {block + f"ln_{i}.bias": draw(WIDTH) for i in (1, 2)}
            own |= {block + "mlp.c_fc.weight": draw(4 * WIDTH, WIDTH), block + "mlp.c_fc.bias": draw(4 * WIDTH)}
            own |= {block + "mlp.c_proj.weight": draw(WIDTH, 4 * WIDTH), block + "mlp.c_proj.bias": draw(WIDTH)}
        for bit in range(BITS):
            own |= {f"hashing.fc_list.{bit}.weight": draw(1, WIDTH), f"hashing.fc_list.{bit}.bias": draw(1)}
        state |= {f"hash.lct_{stream}.{name}": value for name, value in own.items()}
    return state
