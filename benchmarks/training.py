"""The parts of a training step beside the plain formulation of the releases, in one process.

    python benchmarks/training.py [--parts local optimizer step] [--batch-size 128] [--k-bits 64] [--repeats 2]

*local*: the local head's hash layer, forward and backward, on 49 tokens: one product on the mean token, against one
little linear layer a token and bit. *optimizer*: a step of BertAdam over MATH's parameters, against a loop over
parameters and against PyTorch's AdamW(foreach=True). *step*: a whole MATH step with a ViT-B/32 of random weights, in
fp32 and with bf16 autocast, against the plain formulation (a little linear layer a token and bit, anomaly detection,
the loop over parameters), and against what this machine's matrix products reach at most.
"""

import argparse
import resource
import time

import torch
from torch import nn

from math_hash.encoders.clip import ClipEncoder
from math_hash.encoders.weights import named_architecture
from math_hash.methods.math import LocalHead
from math_hash.model import HashModel
from math_hash.training.bert_adam import BertAdam, warmup_cosine
from math_hash.training.code_bank import CodeBank
from math_hash.training.loop import TrainingStep
from math_hash.training.memory import keep_freed_memory

WIDTH, TOKENS, WORDS = 512, 49, 32
# of one row, forward and backward: 26 GFLOP for the picture, 7 for each of two texts, 4 for the heads
FLOP_A_ROW = 44e9


def best(task, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matrix_rate(dtype, size=2048):
    """FLOP a second of this machine's matrix product."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
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


def math_model(k_bits, seed=0):
    torch.manual_seed(seed)
    encoder = ClipEncoder(named_architecture("ViT-B-32-quickgelu", 224))
    return HashModel(encoder, "MATH", k_bits, {}, WORDS)


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
    positions = torch.arange(b)
    flop, rate = FLOP_A_ROW * b, matrix_rate(torch.float32)
    print(
        f"whole step, {k} bits, batch {b}: {flop / 1e12:.1f} TFLOP; fp32 matrix products reach {rate / 1e9:.0f} GFLOP/s"
    )
    found = {}
    for name in ("bf16", "fp32", "plain"):
        model = math_model(k)
        if name == "plain":
            for stream, head in model.head.local_heads.items():
                model.head.local_heads[stream] = PlainLocalHead(head, k)
        whole = TrainingStep(model, CodeBank(("image", "text", "label"), labels, k, 0))
        params = [p for p in model.parameters() if p.requires_grad]
        update = PlainBertAdam(params, 1e-6, 1000) if name == "plain" else BertAdam(params, 1e-6, 1000)

        def once(whole=whole, params=params, update=update, name=name):
            with torch.autograd.set_detect_anomaly(name == "plain"):
                with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
                    terms = whole(inputs, positions, ("image", "text", "label"))
                sum(terms.values()).backward()
            update.step()
            for p in params:
                p.grad = None

        once()
        found[name] = best(once, arguments.repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {name:6} {found[name]:6.1f} s   {flop / found[name] / 1e9:5.0f} GFLOP/s, "
            f"{flop / found[name] / rate:.0%} of the fp32 matrix rate   memory so far at most {peak:.1f} GB",
            flush=True,
        )
    ratios = found["plain"] / found["fp32"], found["fp32"] / found["bf16"]
    print(f"  fp32 {ratios[0]:.2f} times as fast as plain, bf16 {ratios[1]:.2f} times as fast as fp32")


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
