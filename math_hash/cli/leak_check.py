"""`math-hash leak-check`: whether a model's codes depend on the queries alone."""

import argparse
from pathlib import Path
from typing import Any

from math_hash.cli.flags import add_flags, given_options, new_parser
from math_hash.cli.trained_model import TRAINING_ONLY, options_of, refuse, refuse_training_flags
from math_hash.config import make_config
from math_hash.errors import InputError

_HELP = """\
Check that a trained model's codes of queries stay the same, byte for byte, whatever their partners, their labels and
the rest of their batch are. A run folder is checked on its own dataset.

  {command} RUN
  {command} MODEL --dataset flickr25k --rows 500
"""
_WITHOUT = (
    "is_train", "resume", "pretrained", "ties", "result_name", "save_dir", "freeze_encoder", "image_cache", "cache_dir",
    "val_num", "select_on", "unseen_labels", "precision",
)  # fmt: skip


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(
        commands,
        "leak-check",
        "check that codes of queries depend on the queries alone",
        _HELP.format(command="math-hash leak-check"),
    )
    parser.add_argument("model", type=Path, help="run folder, saved folder or released .pth")
    parser.add_argument("--rows", type=int, default=200, help="queries to check, the first of the split; 0: all (200)")
    add_flags(parser, without=_WITHOUT, hidden=TRAINING_ONLY)
    parser.set_defaults(handler=run)


def run(flags: dict[str, Any]) -> None:
    """Check the model, and print a line per modality.

    Raises:
        InputError: the model leaks, or something is wrong with the options, the data or the weights.
    """
    model_path, rows = flags.pop("model"), flags.pop("rows")
    given = {name: value for name, value in flags.items() if value is not None and name != "command"}
    refuse_training_flags(given)
    refuse(given, ["config"], f"{model_path} already names a configuration")
    # queries alone are encoded: no rows are held out for validation
    config = make_config({**given_options(options_of(model_path, given)), "select_on": "test"})

    from math_hash.training.leak_check import check_model
    from math_hash.training.runtime import make_accelerator
    from math_hash.training.setup import open_data, open_trained

    model = open_trained(config).to(make_accelerator(config).device)
    if config.bits:
        model = model.with_bits(config.bits)
    data = open_data(config).for_training
    queries = data.split.query[: rows or None]
    reports = check_model(model, data, queries, min(config.batch_size, max(2, len(queries) // 2)))
    for modality, report in reports.items():
        print(f"{modality:<6}{report}")
    if leaking := [modality for modality, report in reports.items() if not report.passed]:
        raise InputError(f"{model_path}: codes of {' and '.join(leaking)} queries depend on more than the query")
