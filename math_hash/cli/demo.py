"""`math-hash demo`: a small dataset, a model trained on it, and a page that searches it."""

import argparse
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from math_hash.cli import dataset, encode, evaluate, index, serve, train
from math_hash.cli.flags import new_parser, port_number
from math_hash.errors import InputError

_HELP = """\
Draw a small dataset, train MATH on it from scratch, evaluate it, and serve a page that searches it: no download,
minutes on two cores. Each command that it runs is shown. Run again, it evaluates the trained model, or resumes a run
that was interrupted. The page needs `pip install 'math_hash[serve]'`.

  math-hash demo
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "demo", "draw a small dataset, train on it, and search it", _HELP)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for dataset, run, codes and index (.)")
    parser.add_argument(
        "--device", default="auto", help="where it trains: cpu, cuda, cuda:1, mps (a GPU if there is one)"
    )
    last = parser.add_mutually_exclusive_group()
    last.add_argument("--port", type=port_number, default=8000, help="of the search page (8000)")
    last.add_argument("--no-serve", action="store_true", help="end after the evaluation")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Run what is left to do of: draw, train, evaluate, encode, index, serve."""
    if not flags.no_serve and not find_spec("uvicorn"):
        raise InputError(
            "the search page needs `pip install 'math_hash[serve]'`; without it: math-hash demo --no-serve"
        )
    folder, results = flags.output, flags.output / "RESULT_MATH_DEMO"
    drawn, trained = folder / "dataset" / "demo", results / "demo_16" / "first"
    device = ["--device", flags.device]
    if not (drawn / "manifest.json").is_file():
        _call(dataset, "dataset", "make", "demo", "--output", drawn)
    if (trained / "results.json").is_file():
        _call(evaluate, "evaluate", trained, "--dataset-root", drawn.parent, "--result-name", results, *device)
    elif (trained / "config.yaml").is_file():
        _call(train, "train", "--resume", trained, *device)
    else:
        data = ["--dataset", "demo", "--dataset-root", drawn.parent]
        _call(train, "train", *data, "--k-bits", 16, "--save-dir", trained, *device)
    if flags.no_serve:
        return
    codes, uri = folder / "demo.codes", folder / "demo.index"
    if not (codes / "config.json").is_file():
        _call(encode, "encode", trained, drawn, "--output", codes, *device)
    _call(index, "index", codes, "--output", uri, "--update", "--prune")
    _call(serve, "serve", uri, "--model", trained, "--image-root", drawn, "--port", flags.port)


def _call(command: Any, *arguments: object) -> None:
    """Show a command, and run it."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ math-hash {shlex.join(words)}", flush=True)
    parser = argparse.ArgumentParser("math-hash")
    command.add_command(parser.add_subparsers(dest="command"))
    flags = vars(parser.parse_args(words))
    flags.pop("handler")(flags)
