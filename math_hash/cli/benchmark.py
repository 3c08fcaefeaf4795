"""`math-hash benchmark`: several methods, trained and evaluated in the same way."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from math_hash.cli.flags import METHOD_NAMES, add_flags, given_options, new_parser
from math_hash.cli.train import train_with
from math_hash.config import make_config, read_yaml
from math_hash.errors import InputError

_BENCHMARK_HELP = """\
Train and evaluate methods at several code lengths, and write one table and one plot. Given again, the same command
skips finished runs and continues interrupted ones.

  math-hash benchmark --methods MATH MITH DCMH ITQ --k-bits 16 64 --seeds 3 --dataset demo

With --learning-rates, each method is first trained with every one of them, with seed 1 at the first code length; all
its runs in the table have the rate with the best validation score.

All other options are those of training and apply to every run; options of a method apply to the methods that have
them.
"""
# each run's own, and those of --batch-size auto
CELL_OPTIONS = (
    "method", "k_bits", "seed", "bits", "save_dir", "is_train", "resume", "pretrained", "memory_share",
    "memory_overhead",
)  # fmt: skip
CHOSEN = ("command", "methods", "lengths", "seeds", "learning_rates", "output")


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(
        commands, "benchmark", "train and evaluate several methods, and compare them in a table", _BENCHMARK_HELP
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help=f"methods to compare (default: all): {' '.join(METHOD_NAMES)}"
    )
    for flag, text in (("--k-bits", "lengths of the codes, in bits (16 32 64)"), ("--bits", argparse.SUPPRESS)):
        parser.add_argument(flag, dest="lengths", nargs="+", type=int, default=[16, 32, 64], metavar="K", help=text)
    seeds_help = "runs of each method, with seeds 1, 2, ...; one number, or one for each length (3)"
    parser.add_argument("--seeds", nargs="+", type=int, default=[3], metavar="N", help=seeds_help)
    parser.add_argument(
        "--learning-rates", nargs="+", type=float, metavar="LR", help="rates to choose from, per method"
    )
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder for leaderboard.md and .png (docs)")
    add_flags(parser, without=CELL_OPTIONS)
    parser.set_defaults(handler=run)


def run(flags: dict[str, Any]) -> None:
    """Train and evaluate every cell that is not finished, and write the table."""
    chosen = {name: flags.pop(name) for name in CHOSEN}
    given = given_options(flags)
    base = make_config({**given, "is_train": True})
    if not base.batch_size:
        raise InputError("--batch-size auto: methods must be compared at the same batch size; give a number")
    if chosen["learning_rates"] and "lr" in given:
        raise InputError("--lr excludes --learning-rates, of which each method's rate is chosen; give one of them")
    seeds = chosen["seeds"] * len(chosen["lengths"]) if len(chosen["seeds"]) == 1 else chosen["seeds"]
    if len(seeds) != len(chosen["lengths"]):
        raise InputError(
            f"--seeds: {len(seeds)} numbers for {len(chosen['lengths'])} code lengths; give one, or one each"
        )
    from math_hash.methods import METHODS, find_method, short_name
    from math_hash.training.leaderboard import Cell, float_reference, write_leaderboard

    methods = chosen["methods"] or list(METHODS)
    # base.method_options holds those of the presets of MATH too, which are not for other methods
    of_file = read_yaml(given["config"])["method_options"] if "config" in given else {}
    asked = {**of_file, **given.get("method_options", {})}
    options = {method: _taken(method, asked) for method in methods}
    if ignored := asked.keys() - {name for taken in options.values() for name in taken}:
        raise InputError(f"option {', '.join(sorted(ignored))}: not an option of any of {' '.join(methods)}")
    folder = Path(base.result_name) / base.dataset
    reference = float_reference(base, folder)

    def cell_of(method: str, k_bits: int, seed: int, lr: float | None) -> Cell:
        name = f"{short_name(method)}_{k_bits}_{seed}" + (f"_lr{lr:g}" if lr else "")
        return Cell(method, k_bits, seed, folder / name, lr)

    def train(cells: list[Cell]) -> Iterator[Cell]:
        for number, cell in enumerate(cells, start=1):
            if not cell.is_finished:
                rate = f", lr {cell.lr:g}" if cell.lr else ""
                print(f"\n[{number}/{len(cells)}] {cell.method}, {cell.k_bits} bits, seed {cell.seed}{rate}")
                if cell.is_started:
                    train_with({"resume": str(cell.folder)})
                else:
                    own = {"method": cell.method, "k_bits": cell.k_bits, "seed": cell.seed, "lr": cell.lr}
                    own |= {"save_dir": str(cell.folder), "method_options": options[cell.method]}
                    train_with({**given, **{name: value for name, value in own.items() if value is not None}})
            yield cell

    learning = [method for method in methods if find_method(method).trained_by_gradient]
    rates = chosen["learning_rates"] or []
    tried = train([cell_of(method, chosen["lengths"][0], 1, lr) for method in learning for lr in rates])
    best: dict[str, Cell] = {}
    for cell in tried:
        best[cell.method] = max(best.get(cell.method, cell), cell, key=lambda one: one.results()["validation"])
    cells = [
        cell_of(method, k_bits, seed, best[method].lr if method in best else None)
        for seed in range(1, max(seeds) + 1)
        for k_bits, runs in zip(chosen["lengths"], seeds, strict=True)
        for method in methods
        if seed <= runs
    ]
    for _ in train(cells):
        write_leaderboard(cells, chosen["output"], base, reference)
    print(f"\nleaderboard  {chosen['output'] / 'leaderboard.md'}")


def _taken(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a method takes."""
    from math_hash.methods.registry import option_names

    return {name: value for name, value in options.items() if name in option_names(method)}
