"""`math-hash evaluate`, and `python main.py --pretrained`: a trained model, or exported codes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from math_hash.cli.flags import add_flags, given_options, new_parser
from math_hash.cli.trained_model import TRAINING_ONLY, options_of, refuse, refuse_training_flags
from math_hash.config import make_config
from math_hash.errors import InputError

if TYPE_CHECKING:
    from math_hash.training.run_folder import Run

HELP = """\
Evaluate a trained model (a run folder, or a released MATH .pth) on a dataset: mAP in four directions, with and
without the training rows in the database, and the codes as a .mat file.

  {command} --dataset flickr25k --k-bits 16 --pretrained RUN_OR_FILE
"""
_EXPORTS_HELP = """
A run folder alone is evaluated as it was trained: on its dataset, with its split and all its bits.

  {command} RUN [--bits 8]

Or evaluate codes, exported as .mat files (q_img q_txt r_img r_txt q_l r_l) by this package or by the MATH and MITH
releases: every metric, curves, bit statistics and a report that opens offline. Several files are shown side by side,
and each is compared with the first by a paired bootstrap; files of the same name in several folders count as seeds of
one model.

  {command} RUN/PR_curve/MATH-flickr25k-16.mat [MORE.mat ...] --output report
"""

# flags of exported codes and their defaults
_OF_EXPORTS = {
    "output": Path("report"), "top_k": 50, "normalizer": "lineage", "no_relevant": "zero", "min_shared": 1,
    "protocol": None, "allow_different": False, "ties": "index",
}  # fmt: skip


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(
        commands,
        "evaluate",
        "evaluate a trained model, or exported codes",
        (HELP + _EXPORTS_HELP).format(command="math-hash evaluate"),
    )
    names = "a trained model, or exports to evaluate side by side"
    parser.add_argument("targets", nargs="*", type=Path, metavar="RUN or CODES.mat", help=names)
    _add_export_flags(parser)
    add_flags(parser, without=("is_train", "resume"), hidden=TRAINING_ONLY)
    parser.set_defaults(handler=run)


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluating exported codes")
    group.add_argument("--output", type=Path, help="folder for the report (default: report)")
    group.add_argument("--top-k", type=int, help="cutoff k of mAP@k (default: 50)")
    meanings = "which mAP@k: mean over the first min(k, R) relevant rows, over hits in the top k, or over min(R, k)"
    group.add_argument("--normalizer", choices=("lineage", "hits", "min"), help=meanings)
    empty = "queries without a relevant row count as 0, are left out, or are an error (default: zero)"
    group.add_argument("--no-relevant", choices=("zero", "skip", "error"), help=empty)
    group.add_argument("--min-shared", type=int, help="labels that relevant rows must share (default: 1)")
    group.add_argument("--protocol", help="name of the protocol, if the files do not record it (default: by sizes)")
    different = "put results of different protocols side by side"
    group.add_argument("--allow-different", action="store_true", default=None, help=different)


def run(flags: dict[str, Any]) -> None:
    """Evaluate exported codes if .mat files are given, else a trained model; prints the results.

    Raises:
        InputError: a flag changes nothing in what is evaluated, or there is nothing to evaluate.
    """
    targets = flags.pop("targets")
    given = {name: value for name, value in flags.items() if value is not None and name != "command"}
    if targets and all(target.suffix == ".mat" for target in targets):
        refuse(
            given, ["bits"], "exported codes do not say which bits are the most significant; evaluate the run with it"
        )
        others = given.keys() - _OF_EXPORTS.keys()
        refuse(given, others, "is for a trained model, and changes nothing in exported codes")
        _evaluate_exports(targets, {**_OF_EXPORTS, **given})
        return
    reason = "is for exported codes, such as those in RUN/PR_curve, and changes nothing for a trained model"
    refuse(given, _OF_EXPORTS.keys() - {"ties"}, reason)
    refuse_training_flags(given)
    if len(targets) > 1:
        raise InputError(f"{' '.join(map(str, targets))}: expected one trained model, or .mat files of codes")
    if targets:
        refuse(given, ["pretrained", "config"], f"{targets[0]} already names a model and its configuration")
        given = options_of(targets[0], given)
    evaluate_with(given_options(given))


def evaluate_with(given: dict[str, Any]) -> None:
    """Evaluate a trained model with the given options; prints the results."""
    config = make_config(given)
    if not config.pretrained:
        raise InputError("nothing to do: give a run folder, --pretrained RUN_OR_FILE, or CODES.mat files")
    from accelerate import PartialState

    from math_hash.training.api import evaluate
    from math_hash.training.report import results_text

    evaluation = evaluate(config)
    if PartialState().is_main_process:
        print(results_text(evaluation.results))
        print_files(evaluation)


def print_files(run: "Run") -> None:
    """Print where the results and the codes of a run are."""
    from math_hash.training.report import export_name
    from math_hash.training.run_folder import RESULTS

    print(f"results      {run.path / RESULTS}\ncodes        {run.path / export_name(run.results)}")


def _evaluate_exports(paths: list[Path], flags: dict[str, Any]) -> None:
    from math_hash.evaluation import exports, report

    chosen = {name: flags[name] for name in ("top_k", "normalizer", "no_relevant", "min_shared", "ties")}
    evaluations = [exports.evaluate_export(exports.read_export(path, flags["protocol"]), **chosen) for path in paths]
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
    for compared in report.differences(evaluations):
        print(
            f"{compared['second']} against {compared['first']}, {compared['direction']}: {compared['difference']:+.4f} "
            f"(95 % {compared['low']:+.4f} to {compared['high']:+.4f}, p = {compared['p_value']:.4f})"
        )
    report.write_report(evaluations, flags["output"])
    print(f"report       {flags['output'] / 'report.html'}")
