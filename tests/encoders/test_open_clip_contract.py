"""What `encoders.blocks` and `encoders.clip_towers` rely on in open_clip, which may change it with any release.

A test that fails here says that open_clip changed. Then either the blocks are adapted, or the upper bound of
open_clip_torch in requirements.txt is lowered.
"""

import inspect
import re
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import TINY
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, Transformer, VisionTransformer
from torch import nn

from math_hash.encoders import ClipEncoder
from math_hash.encoders.architecture import build_clip
from math_hash.encoders.blocks import is_ordinary, run_blocks

CHANGED = (
    f"open_clip {open_clip.__version__} changed {{}}: adapt math_hash/encoders/blocks.py and clip_towers.py, or lower "
    "the upper bound of open_clip_torch in requirements.txt"
)


def parts(module):
    return {name: type(part) for name, part in module.named_children()}


def test_the_bound_allows_the_installed_release_only_up_to_the_next_minor_one():
    text = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text()
    (bound,) = re.findall(r"^open_clip_torch.*<(\d+)\.(\d+)$", text, re.MULTILINE)
    installed = tuple(int(part) for part in open_clip.__version__.split(".")[:2])
    assert installed < tuple(map(int, bound)), f"open_clip {open_clip.__version__} is beyond requirements.txt"


def test_a_block_has_the_parts_that_are_run_here():
    block = ResidualAttentionBlock(64, 2, ls_init_value=0.1)
    names = ["ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2"]
    assert list(parts(block)) == names, CHANGED.format("the parts of ResidualAttentionBlock")
    assert parts(block)["attn"] is nn.MultiheadAttention, CHANGED.format("the attention of ResidualAttentionBlock")
    assert list(parts(block.mlp)) == ["c_fc", "gelu", "c_proj"], CHANGED.format("the MLP of ResidualAttentionBlock")
    signature = list(inspect.signature(block.forward).parameters)
    assert signature == ["q_x", "k_x", "v_x", "attn_mask"], CHANGED.format("ResidualAttentionBlock.forward")


def test_a_transformer_is_a_row_of_such_blocks():
    transformer = Transformer(64, 2, 2)
    assert is_ordinary(transformer), CHANGED.format("the blocks of Transformer")
    assert list(parts(transformer)) == ["resblocks"], CHANGED.format("the parts of Transformer")
    assert transformer.grad_checkpointing is False, CHANGED.format("Transformer.grad_checkpointing")


@pytest.mark.parametrize("masked", [False, True])
def test_running_the_blocks_here_is_running_the_transformer(masked):
    torch.manual_seed(0)
    transformer, states = Transformer(64, 3, 2).double(), torch.randn(2, 5, 64, dtype=torch.float64)
    mask = torch.full((5, 5), float("-inf"), dtype=torch.float64).triu(1) if masked else None
    expected, between = transformer.forward_intermediates(states, attn_mask=mask, indices=[0, 2])
    last, depths = run_blocks(transformer, states, mask, [0, 2])
    for one, other in ((last, expected), (depths[0], between[0]), (depths[2], between[1])):
        assert torch.allclose(one, other, atol=1e-12), CHANGED.format("what a block computes")


@pytest.mark.parametrize("change", [{}, {"pool_type": "avg"}, {"pool_type": "avg", "final_ln_after_pool": True}])
@pytest.mark.parametrize("custom_text", [False, True])
@torch.no_grad()
def test_the_towers_around_the_blocks_are_open_clips(change, custom_text):
    torch.manual_seed(0)
    vision = {**TINY["vision_cfg"], **change, "patch_dropout": 0.5, "ls_init_value": 0.1}
    clip = build_clip({**TINY, "vision_cfg": vision, "custom_text": custom_text})
    encoder = ClipEncoder({**TINY, "vision_cfg": vision, "custom_text": custom_text}).eval()
    encoder.clip.load_state_dict(clip.state_dict())
    images, ids = torch.randn(2, 3, 32, 32), encoder.tokenize(["two dogs", "sky"], 24)
    expected = clip.eval().encode_image(images)
    assert torch.allclose(encoder.encode_image(images).pooled, expected, atol=1e-5), CHANGED.format("VisionTransformer")
    expected = clip.encode_text(ids)
    assert torch.allclose(encoder.encode_text(ids).pooled, expected, atol=1e-5), CHANGED.format("the text tower")


@pytest.mark.parametrize(
    ("tower", "names"),
    [
        (
            VisionTransformer,
            "conv1 class_embedding positional_embedding patch_dropout ln_pre transformer ln_post proj attn_pool "
            "pool_type final_ln_after_pool image_size",
        ),
        (
            TextTransformer,
            "token_embedding positional_embedding transformer ln_final text_projection attn_mask cls_emb pool_type "
            "context_length",
        ),
    ],
)
def test_the_towers_have_the_public_parts_that_are_used_here(tower, names):
    clip = build_clip({**TINY, "custom_text": True})
    module = clip.visual if tower is VisionTransformer else clip.text
    assert type(module) is tower, CHANGED.format("the classes of its towers")
    missing = [name for name in names.split() if not hasattr(module, name)]
    assert not missing, CHANGED.format(f"{tower.__name__}.{', '.join(missing)}")


def test_no_private_part_of_open_clip_is_used():
    package = Path(inspect.getfile(ClipEncoder)).parent
    for path in sorted(package.glob("*.py")):
        private = re.findall(r"\b_?(?:visual|trunk|clip|text|block|transformer)\._\w+", path.read_text())
        assert not private, f"{path.name}: {private}"
