"""`math-hash compare`: learned codes beside quantizations of the encoder's vectors."""

import argparse
from pathlib import Path
from typing import Any

from math_hash.cli.flags import add_flags, given_options, new_parser

_HELP = """\
Are learned codes better than quantizing the encoder's vectors? One table and one figure of quality against bytes per
item, on one dataset and one encoder: float32, int8, sign bits, RaBitQ, PQ, OPQ, PCA, ITQ, CCA-ITQ, classifier bits and
the codes of a method; binary codes with and without reranking. Measures: mAP and precision@20 by shared labels, recall
of a query's own partner, and mAP on labels that nothing was trained on.

  math-hash compare --dataset demo
  math-hash compare --dataset flickr25k --features FEATURES --align
  math-hash compare --runs RUN

What is missing is trained in OUTPUT/runs; given again, the command uses finished runs and continues interrupted ones.
RaBitQ, PQ and OPQ need `pip install 'math_hash[search]'`, and are left out without it.

The other options are those of training, with their defaults there.
"""
# those of the comparison itself, and those that change nothing in it: its measures break ties in one way, and a batch
# size has to be given; a pretrained model may have been trained on the unseen labels
_WITHOUT = (
    "k_bits", "bits", "save_dir", "is_train", "resume", "unseen_labels", "result_name", "pretrained", "ties",
    "memory_share", "memory_overhead",
)  # fmt: skip
DEFAULT_UNSEEN = 4


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(
        commands, "compare", "compare learned codes with quantized vectors: quality against bytes per item", _HELP
    )
    most = "bits of learned codes; the longest are trained, shorter ones are their most significant bits"
    lengths = (16, 32, 64, 128, 256)
    shown = f"{most} (default: {' '.join(map(str, lengths))})"
    for flag, text in (("--k-bits", shown), ("--code-lengths", argparse.SUPPRESS)):
        parser.add_argument(flag, dest="lengths", nargs="+", type=int, default=lengths, metavar="K", help=text)
    instead = "finished runs of one method, instead of training one; several, where they share a frozen encoder"
    parser.add_argument("--runs", nargs="+", type=Path, default=[], metavar="RUN", help=instead)
    spaces = "quantize the vectors after canonical correlation analysis: for two encoders that share no space"
    parser.add_argument("--align", action="store_true", help=spaces)
    never = f"labels of which no row is trained on, measured in a second training; 0: none (default: {DEFAULT_UNSEEN})"
    parser.add_argument("--unseen-labels", type=int, default=DEFAULT_UNSEEN, metavar="N", help=never)
    written = "folder for compare.md, .csv, .json, .png and runs/ (default: comparison)"
    parser.add_argument("--output", type=Path, default=Path("comparison"), help=written)
    add_flags(parser, without=_WITHOUT)
    parser.set_defaults(handler=run)


def run(flags: dict[str, Any]) -> None:
    """Train what is missing, measure, and write the table and the figure."""
    del flags["command"]
    bits, output = flags.pop("lengths"), flags.pop("output")
    from math_hash.evaluation.compare_report import sentences
    from math_hash.training.compare import compare

    record = compare(output, bits, **given_options(flags))
    print(
        "",
        *sentences(record),
        f"table        {output / 'compare.md'}",
        f"figure       {output / 'compare.png'}",
        sep="\n",
    )
