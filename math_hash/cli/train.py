"""`math-hash train`, and `python main.py --is-train`."""

import argparse
from typing import Any

from math_hash.cli.flags import add_flags, given_options, new_parser
from math_hash.config import Config, make_config

HELP = """\
Train a model on a dataset and evaluate it. A first run that needs no download:

  math-hash dataset make demo
  {command} --dataset demo

With OpenAI's weights in cache/ViT-B-32.pt and a dataset made by `math-hash dataset make flickr25k`:

  {command} --dataset flickr25k --k-bits 16

On several GPUs: accelerate launch main.py --is-train ...
To continue an interrupted run: {command} --resume RUN
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(
        commands, "train", "train a model on a dataset and evaluate it", HELP.format(command="math-hash train")
    )
    add_flags(parser, without=("is_train",))
    parser.set_defaults(handler=run)


def run(flags: dict[str, Any]) -> None:
    """Train, and print the results."""
    del flags["command"]
    train_with(given_options(flags))


def train_with(given: dict[str, Any]) -> None:
    """Train with the given options, others from presets and defaults; prints the results."""
    config: Config | None = None
    if not given.get("resume"):
        config = make_config({**given, "is_train": True})  # so that mistakes show before PyTorch is imported
    from accelerate import PartialState

    from math_hash.training.api import configured, train
    from math_hash.training.report import results_text

    finished = train(config or configured({**given, "is_train": True}))
    if not PartialState().is_main_process:
        return
    from math_hash.cli.evaluate import print_files

    print(results_text(finished.results))
    print_files(finished)
    if (finished.path / "plots" / "loss.png").is_file():
        print(f"plots        {finished.path}/plots")
    print(f"model        {finished.path}    math_hash.load_model({str(finished.path)!r})")
