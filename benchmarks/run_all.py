"""Run the benchmarks on this machine and write `docs/benchmarks.md`: `make bench`, about half an hour on two cores.

Real labels are used where MATH_HASH_DATA, or ../shared/data, holds them.
"""

import argparse
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from math_hash.files import write_text

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MATH_HASH_DATA", ROOT.parent / "shared/data"))
HEAD = """# Benchmarks

All ratios but those of "Search" compare with a plain formulation in the same process; `make bench` measures them on
your machine and writes this page anew. These were measured on {cores} cores, {model}; on a virtual machine, whose
cores are at times busy elsewhere, ratios vary by a fifth from run to run.
"""
SECTIONS = (
    (
        "Evaluation",
        "compares `average_precision` with the loop over queries that releases use (float product, full stable sort, "
        "cumulative mean), on the labels of MIRFlickr-25K and of MS COCO where these are given.",
        "evaluation.py",
    ),
    (
        "Training",
        "compares the hash layer and the optimizer with the plain formulation.",
        "training.py --parts local optimizer",
    ),
    (
        "A whole training step",
        "does the same for a step of MATH with a ViT-B/32 of random weights. The work counted is that of padded texts, "
        "although this package skips most of the padding; the matrix rate is measured before and after each line. "
        "Memory is the most that was allocated at one time; a process takes somewhat more, since there are gaps "
        "between the blocks of its heap.",
        "training.py --parts step --k-bits 16",
    ),
    (
        "Encoding and caches",
        "measures encoding in fp32 and with bf16 weights, the memory of an evaluation, and an epoch from cached "
        "features. The last part, the released protocol, needs a CUDA device.",
        "pipeline.py",
    ),
    (
        "Search",
        "compares engines on one collection of vectors of 64 floats, clustered around 2,000 centers or structureless. "
        "The first ones search 64-bit codes, the signs of the vectors; PQ16x4fs (8 bytes) and RaBitQfs (16 bytes) "
        "search their own codes of the vectors; MultiHash looks into buckets that differ in one bit. "
        "Each engine runs in a process of its own, where no other engine's "
        'threads run beside it, with one thread and then with all; top 100. "alone" is one query at a time. Recall '
        'counts the 10 nearest codes, or the 10 nearest vectors: what a kind of code loses. "bytes/row" is what '
        "opening and searching adds to the memory of the process. This package's index holds ids too; it is built "
        "before, on the disk, and its line gives the time to open it; the others are built in memory.",
        "search.py",
    ),
    (
        "Search in 16-bit codes",
        "does the same with ten million codes of the first 16 signs.",
        "search.py --bits 16 --rows 10000000 --queries 100 --engines index scan faiss-flat",
    ),
    (
        "Search in ten million codes",
        "does the same with ten million codes.",
        "search.py --rows 10000000 --queries 100 --engines index scan faiss-flat",
    ),
    (
        "Near duplicates",
        "compares the join of all pairs within a Hamming radius with a blocked brute force in NumPy: 64-bit codes, "
        "clustered around 2,000 centers or structureless, one thread.",
        "join.py",
    ),
)


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset folder of photographs to encode (default: scenes are drawn)")
    folder, real = parser.parse_args().data, []
    for flag, path in (
        ("--lists", DATA / "mirflickr25k-lists"),
        ("--coco", DATA / "coco-labels/labels_annotation.txt"),
    ):
        real += [flag, str(path)] if path.exists() else []
    elsewhere = (ROOT / "benchmarks/other_machines.md").read_text()
    page = [HEAD.format(cores=os.cpu_count(), model=processor())]
    for title, text, command in SECTIONS:
        print(f"{title} ...", flush=True)
        options = [*real] if command == "evaluation.py" else []
        options += ["--data", str(folder)] if command == "pipeline.py" and folder else []
        script, *own = command.split()
        arguments = [sys.executable, str(ROOT / "benchmarks" / script), *own, *options]
        output = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout
        shown = "\n".join(f"    {line}".rstrip() for line in output.strip().splitlines())
        description = textwrap.fill(f"`python benchmarks/{command}` {text}", 120, break_on_hyphens=False)
        page.append(f"## {title}\n\n{description}\n\n{shown}\n")
        write_text(ROOT / "docs/benchmarks.md", "\n".join([*page, elsewhere]))
    print(ROOT / "docs/benchmarks.md")


if __name__ == "__main__":
    main()
