"""The parts of a training step beside the plain formulation of the releases, in one process.

    python benchmarks/training.py [--parts local optimizer step] [--batch-size 128] [--k-bits 64] [--repeats 2]

*local*: the local head's hash layer, forward and backward, on 49 tokens: one product on the mean token, against one
little linear layer a token and bit. *optimizer*: a step of BertAdam over MATH's parameters, against a loop over
parameters and against PyTorch's AdamW(foreach=True). *step*: a whole MATH step with a ViT-B/32 of random weights, in
fp32, with bf16 autocast and compiled, against the plain formulation (a little linear layer a token and bit, attention
as its formula says, anomaly detection, the loop over parameters), and against what this machine's matrix products reach
at most, measured before and after. Its memory is what was allocated at one time; a process has some more, gaps between
blocks of its heap. It runs on a GPU where there is one.
"""

import argparse
import ctypes
import gc
import threading
import time
from pathlib import Path

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from math_hash.data.pairs import to_device
from math_hash.encoders import ClipEncoder, Features
from math_hash.encoders.blocks import compile_blocks
from math_hash.encoders.weights import named_architecture
from math_hash.methods.math import LocalHead
from math_hash.models.model import HashModel
from math_hash.training.bert_adam import BertAdam, warmup_cosine
from math_hash.training.code_bank import CodeBank
from math_hash.training.loop import TrainingStep
from math_hash.training.memory import keep_freed_memory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WIDTH, TOKENS, WORDS = 512, 49, 32
# of one row, forward and backward: 26 GFLOP for the picture, 7 for each of two texts, 4 for the heads
FLOP_A_ROW = 44e9


def best(task, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def forget_peak():
    """Give what is free back to the system, and measure the peak anew from here on (of this process: Linux)."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory():
    """The most memory that this process had, or its tensors on the GPU, in GB."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM"))


class LiveMemory:
    """The most that was allocated at one time while the block ran, in GB; gaps of the heap do not count (glibc)."""

    def __enter__(self):
        self.most, self.ended = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        kind = type("mallinfo2", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in fields]})
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = kind
        while not self.ended.wait(0.02):
            found = mallinfo2()
            self.most = max(self.most, (found.uordblks + found.hblkhd) / 1e9)

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()


def matrix_rate(dtype, size=2048):
    """FLOP a second of this machine's matrix product."""
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / best(lambda: a @ b, 8)


class PlainHash(nn.Module):
    """The hash layer as released: k linear functions of each token, one after another, averaged over the tokens."""

    def __init__(self, k_bits):
        super().__init__()
        self.functions = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(k_bits))

    def forward(self, tokens):
        bits = []
        for function in self.functions:
            values = [function(tokens[:, place]) for place in range(tokens.shape[1])]
            bits.append(torch.stack(values, dim=1).mean(dim=1))
        return torch.tanh(torch.cat(bits, dim=1))


class PlainLocalHead(nn.Module):
    """A local head around it, of the same transformer."""

    def __init__(self, head: LocalHead, k_bits):
        super().__init__()
        self.transformer, self.hash = head.transformer, PlainHash(k_bits)

    def forward(self, tokens, content=None):
        return self.hash(self.transformer(tokens))


class PlainAttention(nn.Module):
    """Attention as its formula says: softmax(q k^T / sqrt(d) + mask) v, of linear maps of the states."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.heads, self.width = attention.num_heads, attention.embed_dim
        self.joined = nn.Linear(self.width, 3 * self.width)
        self.joined.weight, self.joined.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out = attention.out_proj

    def forward(self, states, *others, attn_mask=None, need_weights=False):
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

    def encode_image(self, images, needs=None):
        visual = self.clip.visual
        normed = visual.ln_post(visual.transformer(visual._embeds(images)))
        return Features(normed[:, 1:] @ visual.proj, normed[:, 0] @ visual.proj)

    def encode_text(self, token_ids, needs=None):
        clip, (batch, length) = self.clip, token_ids.shape
        end, device = token_ids.argmax(dim=1), token_ids.device
        padding = torch.arange(length, device=device) > end[:, None]
        unseen = padding[:, None, None] | torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
        mask = torch.zeros(unseen.shape, device=device).masked_fill(unseen, float("-inf"))
        states = clip.transformer(clip.token_embedding(token_ids) + clip.positional_embedding[:length], attn_mask=mask)
        tokens = clip.ln_final(states) @ clip.text_projection
        return Features(tokens, tokens[torch.arange(batch, device=device), end], padding)


class PlainBertAdam:
    """The optimizer as a loop over parameters, each clipped by itself."""

    def __init__(self, params, lr, total_steps):
        self.params, self.lr, self.total_steps, self.number = list(params), lr, total_steps, 0
        self.state = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in self.params}

    @torch.no_grad()
    def step(self):
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


def local_head(arguments):
    k, b = arguments.k_bits, arguments.batch_size
    tokens = torch.randn(b, TOKENS, WIDTH)
    fused, plain = nn.Linear(WIDTH, k), PlainHash(k)
    with torch.no_grad():
        for bit, function in enumerate(plain.functions):
            function.weight.copy_(fused.weight[bit : bit + 1])
            function.bias.copy_(fused.bias[bit : bit + 1])
    one, other = (tokens.clone().requires_grad_() for _ in range(2))

    def ours():
        torch.tanh(fused(one.mean(dim=1))).sum().backward()

    def theirs():
        plain(other).sum().backward()

    ours(), theirs()
    same = torch.allclose(one.grad, other.grad, atol=1e-6)
    mine, plain_time = best(ours, 20), best(theirs, 3)
    print(
        f"local head, {k} bits, batch {b}, {TOKENS} tokens, forward and backward: {1000 * mine:.2f} ms; "
        f"loop over tokens and bits {1000 * plain_time:.0f} ms; ratio {plain_time / mine:.0f}; same gradients: {same}"
    )


def math_model(k_bits, kind=ClipEncoder):
    torch.manual_seed(0)
    encoder = kind(named_architecture("ViT-B-32-quickgelu", 224))
    return HashModel(encoder, "MATH", k_bits, {}, WORDS)


def make_plain(model):
    for stream, head in model.head.local_heads.items():
        model.head.local_heads[stream] = PlainLocalHead(head, model.k_bits)
    for block in [module for module in model.modules() if isinstance(module, ResidualAttentionBlock)]:
        block.attn = PlainAttention(block.attn)


def optimizer(arguments):
    model = math_model(arguments.k_bits)
    params = [p for p in model.parameters() if p.requires_grad]
    for p in params:
        p.grad = torch.randn_like(p)
    ours, plain = BertAdam(params, 1e-6, 1000), PlainBertAdam(params, 1e-6, 1000)
    adam = torch.optim.AdamW(params, 1e-6, foreach=True)
    found = {}
    for name, one in (("BertAdam", ours), ("loop over parameters", plain), ("AdamW(foreach=True)", adam)):
        one.step()
        found[name] = best(one.step, 5)
    count = sum(p.numel() for p in params)
    listing = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in found.items())
    mine = found["BertAdam"]
    ratios = mine / found["AdamW(foreach=True)"], mine / found["loop over parameters"]
    print(f"optimizer, {count / 1e6:.0f} M numbers in {len(params)} parameters: {listing}")
    print(f"  BertAdam takes {ratios[0]:.2f} times AdamW, {ratios[1]:.2f} times the loop")


def step(arguments):
    k, b = arguments.k_bits, arguments.batch_size
    torch.manual_seed(0)
    labels = (torch.rand(10_000, 24) < 0.15).to(torch.uint8)
    words = torch.zeros(b, WORDS, dtype=torch.int64)
    for row, length in enumerate(torch.randint(5, WORDS, (b,)).tolist()):
        words[row, : length + 1] = torch.cat([torch.randint(1, 40_000, (length,)), torch.tensor([49407])])
    inputs = {"image": torch.randn(b, 3, 224, 224), "text": words, "label_text": words.flip(0), "label": labels[:b]}
    flop = FLOP_A_ROW * b
    print(f"whole step, {k} bits, batch {b}, on {DEVICE}: {flop / 1e12:.1f} TFLOP, padding of texts included")
    inputs = to_device(inputs, DEVICE)
    found, memory, process = {}, {}, {}
    for name in ("bf16", "fp32", "compiled", "plain"):
        forget_peak()
        rates = [matrix_rate(torch.float32)]
        with LiveMemory() as live:
            found[name] = seconds_a_step(name, inputs, labels, arguments)
        rates.append(matrix_rate(torch.float32))
        process[name] = peak_memory()
        memory[name] = process[name] if DEVICE.type == "cuda" else live.most
        rate = sum(rates) / 2
        speed = flop / found[name]
        print(
            f"  {name:8} {found[name]:6.2f} s  {speed / 1e9:5.0f} GFLOP/s, {speed / rate:4.0%} of the fp32 matrix rate "
            f"({rate / 1e9:.0f})   memory {memory[name]:.1f} GB, process {process[name]:.1f} GB",
            flush=True,
        )
    ratios = found["plain"] / found["fp32"], found["fp32"] / found["bf16"], found["fp32"] / found["compiled"]
    print(
        f"  fp32 {ratios[0]:.2f} times as fast as plain; bf16 {ratios[1]:.2f}, compiled {ratios[2]:.2f} times as fp32"
    )
    for name in ("fp32", "bf16"):
        shares = memory[name] / memory["plain"], process[name] / process["plain"]
        print(f"  {name} takes {shares[0]:.0%} of plain's memory, its process {shares[1]:.0%}")


def seconds_a_step(name, inputs, labels, arguments):
    k, is_plain = arguments.k_bits, name == "plain"
    model = math_model(k, PlainEncoder if is_plain else ClipEncoder)
    if is_plain:
        make_plain(model)
    if name == "compiled":
        compile_blocks(model)
    model.to(DEVICE)
    whole = TrainingStep(model, CodeBank(("image", "text", "label"), labels, k, 0)).to(DEVICE)
    params = [p for p in model.parameters() if p.requires_grad]
    update = (PlainBertAdam if is_plain else BertAdam)(params, 1e-6, 1000)
    positions = torch.arange(arguments.batch_size, device=DEVICE)

    def once():
        with torch.autograd.set_detect_anomaly(is_plain):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=name == "bf16"):
                terms = whole(inputs, positions, ("image", "text", "label"))
            sum(terms.values()).backward()
        update.step()
        for p in params:
            p.grad = None

    once(), once()  # the second one still asks for memory
    return best(once, arguments.repeats)


def main():
    parts = {"local": local_head, "optimizer": optimizer, "step": step}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--k-bits", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="of a whole step (2)")
    arguments = parser.parse_args()
    keep_freed_memory()
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for name in arguments.parts:
        parts[name](arguments)


if __name__ == "__main__":
    main()
