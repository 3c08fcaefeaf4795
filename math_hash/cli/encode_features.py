"""`math-hash encode-features`: compute an encoder's features of a dataset once."""

import argparse
from pathlib import Path
from typing import Any

from math_hash.cli.benchmark import CELL_OPTIONS
from math_hash.cli.flags import add_flags, given_options
from math_hash.config import make_config
from math_hash.errors import InputError


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    text = (
        "Compute an encoder's features of every row of a dataset, for --features (docs/features.md). "
        "Training with --freeze-encoder computes and caches them automatically."
    )
    parser = commands.add_parser("encode-features", help="compute an encoder's features once", description=text)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; continues an interrupted run")
    add_flags(parser, without=(*CELL_OPTIONS, "method_options"))
    parser.set_defaults(handler=run)


def run(flags: dict[str, Any]) -> None:
    """Compute the features of every row."""
    output = flags.pop("output")
    if output.exists():
        raise InputError(f"--output {output}: already exists; remove it, or name another folder")
    del flags["command"]
    config = make_config(given_options(flags))
    from math_hash.training.feature_cache import describe, write_features
    from math_hash.training.runtime import make_accelerator
    from math_hash.training.setup import new_encoder, open_data
    from math_hash.training.state import shows_progress

    accelerator = make_accelerator(config)
    data = open_data(config, progress=shows_progress(accelerator))
    encoder = new_encoder(config, data)
    described = describe(encoder, data.folder, config.max_words)
    write_features(
        output, encoder, data.folder, config.max_words, accelerator, config.num_workers, described, data.rejected
    )
    if accelerator.is_main_process:
        print(f"{output}: features of {len(data.folder)} rows")
