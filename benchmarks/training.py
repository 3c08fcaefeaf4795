"""The parts of a training step compared with the plain formulation of the releases, in one process.

    python benchmarks/training.py [--parts local likelihood optimizer step] [--batch-size 128] [--k-bits 64]

*local*: the local head's hash layer, forward and backward, on 49 tokens: one product on the mean token, against one
small linear layer per token and bit. *likelihood*: the pairwise likelihood against 10,000 rows and its gradient, in
closed form, against the formula and autograd, which keeps six matrices of that size. *optimizer*: a step of BertAdam
over MATH's parameters, against a loop over them and against PyTorch's AdamW(foreach=True). *step*: a whole MATH step
with a ViT-B/32 of random weights, in fp32, with bf16 autocast and compiled, against the plain formulation (one small
linear layer per token and bit, attention as its formula says, anomaly detection, the loop over parameters), and
against the rate of this machine's matrix products, measured before and after. Its memory is the most that was
allocated at one time; a process takes somewhat more, since there are gaps between the blocks of its heap. It runs on
a GPU where there is one.
"""

import argparse

import torch
from measuring import DEVICE, LiveMemory, best, bf16_support, matrix_rate, peak_memory, reset_peak_memory
from plain import TOKENS, WIDTH, WORDS, PlainBertAdam, PlainEncoder, PlainHash, make_plain, math_model
from torch import Tensor, nn
from torch.nn import functional as F

from math_hash.data.pairs import to_device
from math_hash.encoders import ClipEncoder
from math_hash.encoders.blocks import compile_blocks
from math_hash.methods.objectives import pairwise_likelihood
from math_hash.training.bert_adam import BertAdam
from math_hash.training.code_bank import CodeBank
from math_hash.training.memory import keep_freed_memory
from math_hash.training.step import TrainingStep

# of one row, forward and backward: 26 GFLOP for the image, 7 for each of two texts, 4 for the heads
FLOP_PER_ROW = 44e9


def local_head(arguments: argparse.Namespace) -> None:
    """Time the hash layer of a local head."""
    k, b = arguments.k_bits, arguments.batch_size
    tokens = torch.randn(b, TOKENS, WIDTH)
    fused, plain = nn.Linear(WIDTH, k), PlainHash(k)
    with torch.no_grad():
        for bit, function in enumerate(plain.functions):
            assert isinstance(function, nn.Linear)
            function.weight.copy_(fused.weight[bit : bit + 1])
            function.bias.copy_(fused.bias[bit : bit + 1])
    one, other = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()

    def ours() -> None:
        torch.tanh(fused(one.mean(dim=1))).sum().backward()

    def theirs() -> None:
        plain(other).sum().backward()

    ours()
    theirs()
    assert one.grad is not None
    assert other.grad is not None
    same = torch.allclose(one.grad, other.grad, atol=1e-6)
    mine, plain_time = best(ours, 20), best(theirs, 3)
    print(
        f"local head, {k} bits, batch {b}, {TOKENS} tokens, forward and backward: {1000 * mine:.2f} ms; "
        f"loop over tokens and bits {1000 * plain_time:.0f} ms; ratio {plain_time / mine:.0f}; same gradients: {same}"
    )


def likelihood(arguments: argparse.Namespace) -> None:
    """Time the pairwise likelihood and its gradient."""
    k, b = arguments.k_bits, arguments.batch_size
    bank, codes = torch.randn(10_000, k), torch.randn(b, k).tanh().requires_grad_()
    similarity = (torch.rand(10_000, b) < 0.3).float()

    def ours() -> Tensor:
        return torch.autograd.grad(pairwise_likelihood(bank, codes, similarity), codes)[0]

    def theirs() -> Tensor:
        s = torch.clamp(bank @ codes.T, -64, 64) / 2
        return torch.autograd.grad((F.softplus(s) - similarity * s).mean(), codes)[0]

    same = torch.allclose(ours(), theirs(), atol=1e-7)
    mine, plain_time = best(ours, 20), best(theirs, 20)
    print(
        f"likelihood, {k} bits, batch {b}, 10,000 rows, with gradient: {1000 * mine:.1f} ms; by autograd "
        f"{1000 * plain_time:.1f} ms; ratio {plain_time / mine:.2f}; same gradients: {same}"
    )


def optimizer(arguments: argparse.Namespace) -> None:
    """Time one step of each optimizer."""
    model = math_model(arguments.k_bits)
    params = [p for p in model.parameters() if p.requires_grad]
    for p in params:
        p.grad = torch.randn_like(p)
    ours, plain = BertAdam(params, 1e-6, 1000), PlainBertAdam(params, 1e-6, 1000)
    adam = torch.optim.AdamW(params, 1e-6, foreach=True)
    seconds = {}
    for name, one in (("BertAdam", ours), ("loop over parameters", plain), ("AdamW(foreach=True)", adam)):
        one.step()
        seconds[name] = best(one.step, 5)
    count = sum(p.numel() for p in params)
    listing = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items())
    mine = seconds["BertAdam"]
    ratios = mine / seconds["AdamW(foreach=True)"], mine / seconds["loop over parameters"]
    print(f"optimizer, {count / 1e6:.0f} M numbers in {len(params)} parameters: {listing}")
    print(f"  BertAdam takes {ratios[0]:.2f} times AdamW, {ratios[1]:.2f} times the loop")


def step(arguments: argparse.Namespace) -> None:
    """Time a whole training step, and measure its memory, in each way."""
    k, b = arguments.k_bits, arguments.batch_size
    torch.manual_seed(0)
    labels = (torch.rand(10_000, 24) < 0.15).to(torch.uint8)
    words = torch.zeros(b, WORDS, dtype=torch.int64)
    for row, length in enumerate(torch.randint(5, WORDS, (b,)).tolist()):
        words[row, : length + 1] = torch.cat([torch.randint(1, 40_000, (length,)), torch.tensor([49407])])
    inputs = {"image": torch.randn(b, 3, 224, 224), "text": words, "label_text": words.flip(0), "label": labels[:b]}
    flop = FLOP_PER_ROW * b
    print(f"whole step, {k} bits, batch {b}, on {DEVICE}: {flop / 1e12:.1f} TFLOP, padding of texts included")
    print(f"  bf16 multiplied by {bf16_support()}")
    inputs = to_device(inputs, DEVICE)
    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    process: dict[str, float] = {}
    for name in ("bf16", "fp32", "compiled", "plain"):
        reset_peak_memory()
        rates = [matrix_rate(torch.float32)]
        with LiveMemory() as live:
            seconds[name] = seconds_per_step(name, inputs, labels, arguments)
        rates.append(matrix_rate(torch.float32))
        process[name] = peak_memory()
        memory[name] = process[name] if DEVICE.type == "cuda" else live.most
        rate = sum(rates) / 2
        speed = flop / seconds[name]
        print(
            f"  {name:8} {seconds[name]:6.2f} s  {speed / 1e9:5.0f} GFLOP/s, {speed / rate:4.0%} of the fp32 matrix "
            f"rate ({rate / 1e9:.0f})   memory {memory[name]:.1f} GB, process {process[name]:.1f} GB",
            flush=True,
        )
    fp32 = seconds["fp32"]
    ratios = seconds["plain"] / fp32, fp32 / seconds["bf16"], fp32 / seconds["compiled"]
    print(
        f"  fp32 is {ratios[0]:.2f} times as fast as plain; bf16 is {ratios[1]:.2f} times and compiled {ratios[2]:.2f} "
        f"times as fast as fp32"
    )
    for name in ("fp32", "bf16"):
        shares = memory[name] / memory["plain"], process[name] / process["plain"]
        print(f"  {name} takes {shares[0]:.0%} of the memory of plain, its process {shares[1]:.0%}")


def seconds_per_step(name: str, inputs: dict[str, Tensor], labels: Tensor, arguments: argparse.Namespace) -> float:
    """The seconds of one step, in the way that `name` says."""
    k, is_plain = arguments.k_bits, name == "plain"
    model = math_model(k, PlainEncoder if is_plain else ClipEncoder)
    if is_plain:
        make_plain(model)
    if name == "compiled":
        compile_blocks(model)
    model.to(DEVICE)
    whole = TrainingStep(model, CodeBank(dict.fromkeys(("image", "text", "label"), k), labels, 0)).to(DEVICE)
    params = [p for p in model.parameters() if p.requires_grad]
    update = (PlainBertAdam if is_plain else BertAdam)(params, 1e-6, 1000)
    positions = torch.arange(arguments.batch_size, device=DEVICE)

    def once() -> None:
        with torch.autograd.set_detect_anomaly(is_plain):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=name == "bf16"):
                terms = whole(inputs, positions, ("image", "text", "label"))
            sum(terms.values()).backward()
        update.step()
        for p in params:
            p.grad = None

    once()
    once()  # the second step still allocates memory
    return best(once, arguments.repeats)


def main() -> None:
    parts = {"local": local_head, "likelihood": likelihood, "optimizer": optimizer, "step": step}
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
