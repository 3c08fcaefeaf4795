"""The command-line tools: `main.py` with the release's flags, and `math-hash`, with one command per file.

A command's file has `add_command`, which adds it to argparse, and `run`, which runs it. PyTorch takes seconds to
import, so only `run` imports modules that need it.
"""

import argparse
import atexit
import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from math_hash.cli import (
    album,
    benchmark,
    compare,
    dataset,
    delete,
    demo,
    duplicates,
    encode,
    encode_features,
    evaluate,
    export,
    index,
    leak_check,
    search,
    serve,
    sync,
    train,
)
from math_hash.cli.flags import add_flags, given_options
from math_hash.errors import InputError, exit_code, import_extra

_COMMANDS = (
    demo, album, sync, train, evaluate, leak_check, dataset, encode_features, benchmark, compare, encode, index, delete,
    search, duplicates, serve, export,
)  # fmt: skip

_HELP = """\
Deep cross-modal hashing on CLIP.

  math-hash album photos/      # search your photographs, without training
  math-hash demo               # train a small model, and search with it
  math-hash COMMAND --help     # what a command does, with examples
"""


def main_py(arguments: Sequence[str] | None = None) -> int:
    """`python main.py`: train with --is-train, else evaluate. Returns the exit code."""
    text = train.HELP.format(command="python main.py --is-train") + "\n"
    text += evaluate.HELP.format(command="python main.py")
    parser = argparse.ArgumentParser("main.py", description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    flags = vars(parser.parse_args(arguments))
    _prepare_process()
    return exit_code(lambda: _train_or_evaluate(flags))


def _train_or_evaluate(flags: dict) -> None:
    given = given_options(flags)
    if given.get("is_train") or given.get("resume"):
        train.train_with(given)
    elif given.get("pretrained"):
        evaluate.evaluate_with(given)
    else:
        raise InputError("nothing to do: give --is-train to train, or --pretrained RUN_OR_FILE to evaluate")


def main(arguments: Sequence[str] | None = None) -> int:
    """`math-hash COMMAND`. Returns the exit code."""
    warnings.formatwarning = _one_line
    if "" not in sys.path:  # so that --method package.module:Class finds modules in the working directory
        sys.path.append("")
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import_extra("argcomplete", "completion", "completion").autocomplete(parser)
    flags = vars(parser.parse_args(arguments))
    handler = flags.pop("handler")
    _prepare_process()
    return exit_code(lambda: handler(flags))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("math-hash", description=_HELP, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"math_hash {sys.modules['math_hash'].__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_command(commands)
    return parser


def _one_line(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


@cache
def _prepare_process() -> None:
    # the user chose the number of workers; PyTorch's advice would stand between the lines of the results
    warnings.filterwarnings("ignore", "This DataLoader will create")
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    """Leave the group of processes that a launcher started; one that is alive at exit may abort the interpreter."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
