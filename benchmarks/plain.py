"""The plain formulation of a MATH training step, as the releases write it, for comparison."""

from collections.abc import Iterable

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from math_hash.data.needs import EVERYTHING, Needs
from math_hash.encoders import ClipEncoder, Features
from math_hash.encoders.encoder import EncoderInput
from math_hash.encoders.weights import named_architecture
from math_hash.methods.math import MATH, LocalHead
from math_hash.models.model import HashModel
from math_hash.training.bert_adam import warmup_cosine

WIDTH, TOKENS, WORDS = 512, 49, 32


class PlainHash(nn.Module):
    """The hash layer as released: k linear functions of each token, one after another, averaged over the tokens."""

    def __init__(self, k_bits: int):
        super().__init__()
        self.functions = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(k_bits))

    def forward(self, tokens: Tensor) -> Tensor:
        bits = []
        for function in self.functions:
            values = [function(tokens[:, position]) for position in range(tokens.shape[1])]
            bits.append(torch.stack(values, dim=1).mean(dim=1))
        return torch.tanh(torch.cat(bits, dim=1))


class PlainLocalHead(nn.Module):
    """A local head with that hash layer and our head's transformer."""

    def __init__(self, head: LocalHead, k_bits: int):
        super().__init__()
        self.transformer, self.hash = head.transformer, PlainHash(k_bits)

    def forward(self, tokens: Tensor, content: Tensor | None = None) -> Tensor:
        return self.hash(self.transformer(tokens))


class PlainAttention(nn.Module):
    """Attention as its formula says: softmax(q k^T / sqrt(d) + mask) v, of linear maps of the states."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.heads, self.width = attention.num_heads, attention.embed_dim
        self.joined = nn.Linear(self.width, 3 * self.width)
        self.joined.weight, self.joined.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out = attention.out_proj

    def forward(
        self, states: Tensor, *others: Tensor, attn_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor]:
        batch, length, _ = states.shape
        parts = self.joined(states).chunk(3, dim=-1)
        query, key, value = (part.reshape(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        logits = query @ key.transpose(-2, -1) / (self.width / self.heads) ** 0.5
        if attn_mask is not None:
            logits = logits + attn_mask
        mixed = (torch.softmax(logits, dim=-1) @ value).transpose(1, 2).reshape(batch, length, self.width)
        return (self.out(mixed),)


class PlainEncoder(ClipEncoder):
    """The encoder on open_clip's blocks with plain attention; all results are kept for the gradients."""

    def encode_image(self, images: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        assert isinstance(images, Tensor)
        visual = self.clip.visual
        normed = visual.ln_post(visual.transformer(visual._embeds(images)))
        return Features(normed[:, 1:] @ visual.proj, normed[:, 0] @ visual.proj)

    def encode_text(self, token_ids: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        assert isinstance(token_ids, Tensor)
        clip, (batch, length) = self.clip, token_ids.shape
        end, device = token_ids.argmax(dim=1), token_ids.device
        padding = torch.arange(length, device=device) > end[:, None]
        unseen = padding[:, None, None] | torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
        mask = torch.zeros(unseen.shape, device=device).masked_fill(unseen, float("-inf"))
        states = clip.transformer(clip.token_embedding(token_ids) + clip.positional_embedding[:length], attn_mask=mask)
        tokens = clip.ln_final(states) @ clip.text_projection
        return Features(tokens, tokens[torch.arange(batch, device=device), end], padding)


class PlainBertAdam:
    """The optimizer as a loop over parameters, with the gradient of each clipped on its own."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, total_steps: int):
        self.params, self.lr, self.total_steps, self.number = list(params), lr, total_steps, 0
        self.state = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in self.params}

    @torch.no_grad()
    def step(self) -> None:
        for p in self.params:
            if p.grad is None:
                continue
            mean, square = self.state[p]
            torch.nn.utils.clip_grad_norm_([p], 1.0)
            mean.mul_(0.9).add_(p.grad, alpha=0.1)
            square.mul_(0.98).addcmul_(p.grad, p.grad, value=0.02)
            update = mean / (square.sqrt() + 1e-6) + 0.01 * p
            p.add_(-self.lr * warmup_cosine(self.number / self.total_steps, 0.05) * update)
        self.number += 1


def math_model(k_bits: int, kind: type[ClipEncoder] = ClipEncoder) -> HashModel:
    """MATH with a ViT-B/32 of random weights."""
    torch.manual_seed(0)
    encoder = kind(named_architecture("ViT-B-32-quickgelu", 224))
    return HashModel(encoder, "MATH", k_bits, {}, WORDS)


def make_plain(model: HashModel) -> None:
    """Replace the model's local heads and attention by the plain ones."""
    assert isinstance(model.head, MATH)
    for stream, head in model.head.local_heads.items():
        assert isinstance(head, LocalHead)
        model.head.local_heads[stream] = PlainLocalHead(head, model.k_bits)
    for block in [module for module in model.modules() if isinstance(module, ResidualAttentionBlock)]:
        block.attn = PlainAttention(block.attn)
