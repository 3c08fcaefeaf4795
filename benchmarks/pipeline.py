"""From images to codes, and from cached features to a trained model, with a ViT-B/32 of random weights.

    python benchmarks/pipeline.py [--parts encode cache protocol] [--data FOLDER] [--rows 1024] [--batch-size 128]

*encode*: images and texts per second, in fp32 and with bf16 weights, the share of decoding, and the memory of an
evaluation with a quarter of the rows and with all of them, compared with the plain formulation, which encodes with
gradient graphs and plain attention.
*cache*: an epoch of MATH with the encoder in the loop compared with one from cached features, and the size of the
cache. *protocol*: the released protocol of MIRFlickr-25K, 20,015 pairs and 30 epochs with an evaluation in each, from
caches, in fp32 and bf16, then full training in bf16, compiled and not; this part needs a CUDA device. FOLDER is a
dataset folder; by default scenes are drawn.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from measuring import bf16_support, matrix_rate, peak_memory, reset_peak_memory
from plain import PlainEncoder, make_plain, math_model
from torch import Tensor
from training import FLOP_PER_ROW

from math_hash.cli import main_py
from math_hash.data import PairDataset, load_batches, read_dataset
from math_hash.models.model import HashModel
from math_hash.training.evaluate import encode_rows

ROOT = Path(__file__).resolve().parents[1]
MIRFLICKR = 20_015


def drawn(folder: Path, rows: int) -> Path:
    """Draw a dataset of scenes; returns its folder."""
    tool = ROOT / "tools/make_datasets/make_demo.py"
    command = [sys.executable, str(tool), "--output", str(folder), "--rows", str(rows)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def pairs(folder: Path, model: HashModel) -> PairDataset:
    """All rows of a dataset folder, as the model reads them."""
    return PairDataset(
        read_dataset(folder),
        model.encoder.tokenizer,
        model.encoder.image_transform,
        model.max_words,
        needs=model.head.needs,
    )


class Compared(NamedTuple):
    """Rows per second in fp32, how many times as fast bf16 is, and the share of bits that differ."""

    rate: float
    ratio: float
    differ: float


def compare_precisions(model: HashModel, modality: str, inputs: list[dict[str, Tensor]], repeats: int) -> Compared:
    """Encode batches that are decoded already, in fp32 and with bf16 weights."""
    seconds, bits = {"no": np.inf, "bf16": np.inf}, {}
    for _ in range(repeats):  # by turns, so that other work slows down both
        for each in (model, model.in_precision("bf16")):
            hash_batch = each.hash_image if modality == "image" else each.hash_text
            with torch.inference_mode():
                hash_batch(inputs[0][modality][:8])
                start = time.perf_counter()
                bits[each.precision] = torch.cat([hash_batch(one[modality]).cpu() >= 0 for one in inputs])
            seconds[each.precision] = min(seconds[each.precision], time.perf_counter() - start)
    differ = float((bits["no"] != bits["bf16"]).float().mean())
    return Compared(len(bits["no"]) / seconds["no"], seconds["no"] / seconds["bf16"], differ)


def encode(arguments: argparse.Namespace, work: Path) -> None:
    """Measure the rates of encoding, and the memory of an evaluation."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder, batch = arguments.data or drawn(work / "encode", arguments.rows), arguments.batch_size
    model = math_model(64).to(device).eval()
    dataset = pairs(folder, model)
    rows = np.arange(min(arguments.rows, len(dataset)))
    start = time.perf_counter()
    for row in rows[:200]:
        dataset.with_streams(("image",))[row]
    decoding = (time.perf_counter() - start) / min(200, len(rows))
    batches = [rows[at : at + batch] for at in range(0, 4 * batch, batch)]
    inputs = list(load_batches(dataset, [b for b in batches if len(b)], device=device))
    in_bf16 = {name: compare_precisions(model, name, inputs, arguments.repeats) for name in ("image", "text")}
    rates = {name: compared.rate for name, compared in in_bf16.items()}
    print(f"encoding with a ViT-B/32 on {device}, batch {batch}, {folder.name}:")
    share = decoding / (decoding + 1 / rates["image"])
    print(
        f"  {rates['image']:.1f} images/s once decoded, {1 / decoding:.0f} decoded/s by one process: without workers,"
    )
    print(f"  decoding would take {share:.0%} of an image's time")
    print(f"  {rates['text']:.1f} texts/s")
    print(f"  bf16 weights, {bf16_support()}:")
    for name, (rate, ratio, differ) in in_bf16.items():
        print(f"    {rate * ratio:.1f} {name}s/s, {ratio:.2f} times fp32; {differ:.2%} of bits differ")
    accelerator = Accelerator(cpu=device == "cpu")
    for some in (rows[: len(rows) // 4], rows):
        reset_peak_memory()
        start = time.perf_counter()
        encode_rows(model, dataset, some, accelerator, batch_size=batch, num_workers=2)
        seconds = time.perf_counter() - start
        print(f"  {len(some)} pairs: {len(some) / seconds:.1f} pairs/s with 2 workers, at most {peak_memory():.2f} GB")
    plain = math_model(64, PlainEncoder)
    make_plain(plain)
    plain.to(device)
    reset_peak_memory()
    kept, memory, start = [], [], time.perf_counter()
    for one in inputs[:2]:
        image, text = plain.encoder.encode_image(one["image"]), plain.encoder.encode_text(one["text"])
        kept += [plain.head.hash_image(image), plain.head.hash_text(text)]
        memory.append(peak_memory())
    seconds = (time.perf_counter() - start) / sum(len(code) for code in kept[::2])
    both = 1 / rates["image"] + 1 / rates["text"]
    print(f"  plain, with gradient graphs: {1 / seconds:.1f} pairs/s once decoded, {memory[0]:.1f} GB after one batch,")
    print(f"  {memory[1]:.1f} GB after two; this package is {seconds / both:.2f} times as fast")


def train(folder: Path, save: Path, *options: str) -> tuple[list[float], dict[str, float]]:
    """Train on a dataset folder: the seconds of each epoch, and the mAP in each direction."""
    flags = [
        "--is-train", "--dataset-root", str(folder.parent), "--dataset", folder.name, "--encoder",
        "ViT-B-32-quickgelu", "--encoder-weights", "none", "--resolution", "224", "--max-words", "32",
        "--transformer-layers", "2", "--num-workers", "2", "--save-dir", str(save), "--cache-dir",
        str(save.parent / "cache"), *options,
    ]  # fmt: skip
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        code = main_py(flags)
    if code:
        raise SystemExit(code)
    records = [json.loads(line) for line in (save / "metrics.jsonl").read_text().splitlines()]
    return [record["training_seconds"] for record in records], json.loads((save / "results.json").read_text())["mAP"]


def cache(arguments: argparse.Namespace, work: Path) -> None:
    """Compare an epoch with the encoder and one from cached features."""
    folder, batch = drawn(work / "cached", 640), ["--batch-size", str(arguments.batch_size)]
    sizes = ["--query-num", "64", "--train-num", "320", "--val-num", "64", *batch]
    with_encoder, _ = train(folder, work / "whole", *sizes, "--epochs", "1")
    from_cache, _ = train(folder, work / "heads", *sizes, "--epochs", "3", "--freeze-encoder")
    size = sum(path.stat().st_size for path in next((work / "cache").iterdir()).glob("*.npy"))
    print("an epoch of MATH over 256 rows:")
    print(f"  encoder in the loop {with_encoder[0]:.1f} s, from cached features {min(from_cache):.2f} s")
    print(f"  ratio {with_encoder[0] / min(from_cache):.1f}")
    per_row = size / 640
    print(f"  the cache takes {per_row / 1e3:.0f} kB per row: {per_row * MIRFLICKR / 1e9:.2f} GB for {MIRFLICKR} rows")


def protocol(arguments: argparse.Namespace, work: Path) -> None:
    """Run the released protocol of MIRFlickr-25K from caches, and two epochs of full training."""
    if not torch.cuda.is_available():
        print("protocol: not measured, since it needs a CUDA device and there is none here")
        return
    folder = arguments.data or drawn(work / "protocol", MIRFLICKR)
    sizes = ["--query-num", "2000", "--train-num", "10000", "--val-num", "500", "--batch-size", "128"]
    for precision in ("no", "bf16"):
        start = time.perf_counter()
        options = [*sizes, "--epochs", "30", "--valid-freq", "1", "--freeze-encoder", "--precision", precision]
        seconds, results = train(folder, work / f"protocol {precision}", *options)
        shown = ", ".join(f"{direction} {value:.4f}" for direction, value in results.items())
        print(
            f"30 epochs from caches, precision {precision}: training {sum(seconds):.0f} s; together with encoding and"
        )
        print(f"  all evaluations {time.perf_counter() - start:.0f} s; {shown}", flush=True)
    rate = matrix_rate(torch.bfloat16, 8192)
    for options in ([], ["--compile"]):
        seconds, _ = train(
            folder, work / f"whole{len(options)}", *sizes, "--epochs", "2", "--image-cache", "8", "--precision", "bf16",
            *options,
        )  # fmt: skip
        flop = FLOP_PER_ROW * 9500 / seconds[1]
        print(
            f"whole training {' '.join(options) or 'eager'}: {9500 / seconds[1]:.0f} samples/s, {flop / 1e12:.0f} "
            f"TFLOP/s, {flop / rate:.0%} of the bf16 matrix rate"
        )


def main() -> None:
    parts = {"encode": encode, "cache": cache, "protocol": protocol}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--data", type=Path, help="dataset folder (default: scenes are drawn)")
    parser.add_argument("--rows", type=int, default=1024, help="rows to encode (1024)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2, help="of encoding in each precision (2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.parts:
            parts[name](arguments, Path(work))


if __name__ == "__main__":
    main()
