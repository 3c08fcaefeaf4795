"""The command lines: `main.py` with the release's flags, and `math-hash` with one command a task."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from math_hash.cli import encode, export, index, search, serve
from math_hash.config import Config, add_flags, flag_of, make_config
from math_hash.errors import InputError, exit_code

_TRAIN_HELP = """\
Train a model on a dataset and evaluate it. A first run that needs no download:

  python tools/make_datasets/make_demo.py
  {command} --dataset demo

With OpenAI's weights in cache/ViT-B-32.pt and a dataset made by tools/make_datasets/make_flickr25k.py:

  {command} --dataset flickr25k --k-bits 16

On several GPUs: accelerate launch main.py --is-train ... ; continue a killed run: {command} --resume RUN
"""
_EVALUATE_HELP = """\
Evaluate a trained model (a run folder, or a released MATH .pth) on a dataset: mAP in four directions, with and
without the training rows in the database, and the codes as a .mat file.

  {command} --dataset flickr25k --k-bits 16 --pretrained RUN_OR_FILE
"""
_EXPORTS_HELP = """
Or evaluate codes, exported as .mat files (q_img q_txt r_img r_txt q_l r_l) by this package or by the MATH and MITH
releases: every metric, curves, bit statistics and a report that opens offline. Several files stand side by side, the
first one against each other by a paired bootstrap; files of one name in several folders count as seeds of one model.

  {command} RUN/PR_curve/MATH-flickr25k-16.mat [MORE.mat ...] --output report
"""


def main_py(arguments: Sequence[str] | None = None) -> int:
    """`python main.py`: train with --is-train, else evaluate. Returns the exit code."""
    text = _TRAIN_HELP.format(command="python main.py --is-train") + "\n"
    text += _EVALUATE_HELP.format(command="python main.py")
    parser = argparse.ArgumentParser("main.py", description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    flags = vars(parser.parse_args(arguments))
    return exit_code(lambda: _run(flags))


def main(arguments: Sequence[str] | None = None) -> int:
    """`math-hash COMMAND`. Returns the exit code."""
    parser = argparse.ArgumentParser("math-hash", description="Deep cross-modal hashing on CLIP.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, summary in (
        ("train", _TRAIN_HELP, "train a model on a dataset and evaluate it"),
        ("evaluate", _EVALUATE_HELP + _EXPORTS_HELP, "evaluate a trained model, or exported codes"),
    ):
        command = commands.add_parser(
            name,
            help=summary,
            description=text.format(command=f"math-hash {name}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "evaluate":
            _add_export_flags(command)
        add_flags(command)
        command.set_defaults(handler=_train_or_evaluate)
    _add_dataset_commands(commands)
    _add_encode_features(commands)
    _add_benchmark(commands)
    for command_file in (encode, index, search, serve, export):
        command_file.add_command(commands)
    flags = vars(parser.parse_args(arguments))
    handler = flags.pop("handler")
    return exit_code(lambda: handler(flags))


def _train_or_evaluate(flags: dict) -> None:
    flags["is_train"] = flags.pop("command") == "train" or None
    exports = {name: flags.pop(name) for name in _EXPORT_FLAGS if name in flags}
    if exports.get("codes"):
        _evaluate_exports(exports, flags["ties"] or "index")
    else:
        _run(flags)


def _add_dataset_commands(commands) -> None:
    group = commands.add_parser("dataset", help="check a dataset's folder, or look at it")
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    texts = {
        "check": "Check a dataset's folder: lengths, 0/1 labels, sums, every picture. Prints a summary and writes it "
        "into manifest.json; unusable pictures are listed in rejected.tsv.",
        "show": "Draw rows of a dataset with their texts and labels, as one picture.",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text.split(":")[0].split(",")[0].rstrip("."), description=text)
        action.add_argument("folder", type=Path, help="folder with index.mat, caption.mat, label.mat and label_t.mat")
        action.add_argument("--image-root", default="", help="what image paths start from (default: as recorded)")
        action.add_argument("--allow-unlabelled", action="store_true", help="rows may lack a label")
        if name == "check":
            levels = "decode each picture, or only see that it is there"
            action.add_argument("--check", choices=("full", "fast"), default="full", help=levels)
        else:
            action.add_argument("--output", type=Path, help="picture to write (default: <folder>.png)")
            action.add_argument("--rows", type=int, default=24, help="how many rows (24)")
            action.add_argument("--seed", type=int, default=1, help="of the choice of rows (1)")
        action.set_defaults(handler=_dataset)


def _dataset(flags: dict) -> None:
    if flags["action"] == "check":
        from math_hash.data.building.check import check_dataset

        print(check_dataset(flags["folder"], flags["image_root"], flags["check"], flags["allow_unlabelled"]))
        return
    import numpy as np

    from math_hash.data import read_dataset
    from math_hash.data.figures import draw_rows

    folder = read_dataset(flags["folder"], image_root=flags["image_root"], allow_unlabelled=flags["allow_unlabelled"])
    rows = np.random.default_rng(flags["seed"]).permutation(len(folder))[: flags["rows"]]
    output = flags["output"] or Path(f"{flags['folder']}.png")
    draw_rows(output, folder, np.sort(rows))
    print(f"{len(rows)} of {len(folder)} rows: {output}")


_BENCHMARK_HELP = """\
Train and evaluate methods at several code lengths, and write one table and one plot of mAP against bits. Finished
cells are not run again, cut-off ones go on: the same command continues it.

  math-hash benchmark --methods MATH MITH DCMH ITQ --bits 16 64 --seeds 3 --dataset demo

All other options are those of training, and hold for every cell.
"""
_CELL_OPTIONS = ("method", "k_bits", "seed", "bits", "save_dir", "is_train", "resume", "pretrained")


def _add_benchmark(commands) -> None:
    parser = commands.add_parser(
        "benchmark",
        help="train and evaluate several methods, and write a table of them",
        description=_BENCHMARK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods to compare (default: all)")
    parser.add_argument("--bits", nargs="+", type=int, default=[16, 32, 64], metavar="K", help="lengths (16 32 64)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds 1, 2, ... (3)")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of leaderboard.md and .png (docs)")
    add_flags(parser, without=_CELL_OPTIONS)
    parser.set_defaults(handler=_benchmark)


def _add_encode_features(commands) -> None:
    text = (
        "Compute an encoder's features of every row of a dataset, for --features (docs/features.md). "
        "--freeze-encoder computes and keeps them by itself."
    )
    parser = commands.add_parser("encode-features", help="compute an encoder's features once", description=text)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; a killed run goes on")
    add_flags(parser, without=_CELL_OPTIONS)
    parser.set_defaults(handler=_encode_features)


def _encode_features(flags: dict) -> None:
    output = flags.pop("output")
    if output.exists():
        raise InputError(f"--output {output}: is there already; remove it, or name another folder")
    config = make_config({name: value for name, value in flags.items() if name != "command"})
    from math_hash.training.feature_cache import describe, write_features
    from math_hash.training.loop import make_accelerator
    from math_hash.training.setup import new_encoder, open_data

    accelerator = make_accelerator(config)
    data = open_data(config, progress=accelerator.is_main_process and os.isatty(2))
    encoder = new_encoder(config, data)
    described = describe(encoder, data.folder, config.max_words)
    write_features(output, encoder, data, config.max_words, accelerator, config.num_workers, described)
    if accelerator.is_main_process:
        print(f"{output}: features of {len(data.folder)} rows")


def _benchmark(flags: dict) -> None:
    from math_hash.training.leaderboard import Cell, float_reference, write_leaderboard

    chosen = {name: flags.pop(name) for name in ("command", "methods", "bits", "seeds", "output")}
    base = make_config({**flags, "is_train": True})
    from math_hash.methods import METHODS

    if not base.batch_size:
        raise InputError("--batch-size auto: methods compare at one batch size only; give a number")
    methods = chosen["methods"] or list(METHODS)
    if unknown := [method for method in methods if method not in METHODS]:
        raise InputError(f"--methods {' '.join(unknown)}: unknown; choose from {', '.join(METHODS)}")
    folder = Path(base.result_name) / base.dataset
    reference = float_reference(base, folder)
    cells = [
        Cell(method, k_bits, seed, folder / f"{method}_{k_bits}_{seed}")
        for seed in range(1, chosen["seeds"] + 1)
        for k_bits in chosen["bits"]
        for method in methods
    ]
    for number, cell in enumerate(cells, start=1):
        if not cell.is_finished:
            print(f"\n[{number}/{len(cells)}] {cell.method}, {cell.k_bits} bits, seed {cell.seed}")
            if cell.is_started:
                _run({**dict.fromkeys(flags), "is_train": True, "resume": str(cell.folder)})
            else:
                options = {"method": cell.method, "k_bits": cell.k_bits, "seed": cell.seed}
                _run({**flags, **options, "is_train": True, "save_dir": str(cell.folder)})
        write_leaderboard(cells, chosen["output"], base, reference)
    print(f"\nleaderboard  {chosen['output'] / 'leaderboard.md'}")


_EXPORT_FLAGS = ("codes", "output", "top_k", "normalizer", "no_relevant", "min_shared", "protocol", "allow_different")


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluating exported codes")
    group.add_argument("codes", nargs="*", type=Path, metavar="CODES.mat", help="exports to evaluate, side by side")
    group.add_argument("--output", type=Path, default=Path("report"), help="folder of the report (default: report)")
    group.add_argument("--top-k", type=int, default=50, help="cut-off of mAP@k (default: 50)")
    meanings = "which mAP@k: mean over the first min(k, R) relevant rows, over hits in the top k, or over min(R, k)"
    group.add_argument("--normalizer", choices=("lineage", "hits", "min"), default="lineage", help=meanings)
    empty = "queries without a relevant row count 0, are left out, or are an error (default: zero)"
    group.add_argument("--no-relevant", choices=("zero", "skip", "error"), default="zero", help=empty)
    group.add_argument("--min-shared", type=int, default=1, help="labels that relevant rows share (default: 1)")
    group.add_argument("--protocol", help="name of the protocol, where the files do not tell (default: by sizes)")
    group.add_argument("--allow-different", action="store_true", help="put results of different protocols side by side")


def _evaluate_exports(flags: dict, ties: str) -> None:
    from math_hash.evaluation import exports, report

    chosen = {name: flags[name] for name in ("top_k", "normalizer", "no_relevant", "min_shared")}
    evaluations = [
        exports.evaluate_export(exports.read_export(path, flags["protocol"]), ties=ties, **chosen)
        for path in flags["codes"]
    ]
    if not flags["allow_different"]:
        exports.require_comparable([evaluation.record for evaluation in evaluations])
    print(report.as_text(*report.table(evaluations)))
    for evaluation in evaluations:
        for line in evaluation.record["warnings"]:
            print(f"warning: {evaluation.export.name}: {line}")
        if empty := evaluation.metrics["image->text"].without_relevant:
            print(
                f"{evaluation.export.name}: {empty} queries have no relevant row (--no-relevant {flags['no_relevant']})"
            )
    for found in report.differences(evaluations):
        print(
            f"{found['second']} against {found['first']}, {found['direction']}: {found['difference']:+.4f} "
            f"(95 % {found['low']:+.4f} to {found['high']:+.4f}, p = {found['p_value']:.4f})"
        )
    report.write_report(evaluations, flags["output"])
    print(f"report       {flags['output'] / 'report.html'}")


def _run(flags: dict) -> None:
    config = _resumed(flags) if flags.get("resume") else make_config(flags)
    if not config.is_train and not config.pretrained:
        raise InputError("nothing to do: give --is-train to train, or --pretrained RUN_OR_FILE to evaluate")
    from math_hash.training import commands  # PyTorch takes seconds to import; --help and typing errors need none of it

    commands.run(config)


def _resumed(flags: dict) -> Config:
    """The configuration of the run to resume; other flags may say where things are, not what is computed."""
    from math_hash.training.run_folder import RunFolder

    movable = {"resume", "num_workers", "image_root", "dataset_root", "cache_dir", "is_train"}
    given = {item for item in fields(Config) if flags.get(item.name) is not None and item.name not in movable}
    saved = RunFolder(flags["resume"]).read_config()
    for item in given:
        if flags[item.name] != saved.get(item.name):
            raise InputError(
                f"--resume {flags['resume']}: the run has {flag_of(item)} {saved.get(item.name)}; "
                f"leave {flag_of(item)} out, or start a new run"
            )
    moved = {name: flags[name] for name in movable if flags.get(name) is not None}
    return Config(**{**saved, **moved})
