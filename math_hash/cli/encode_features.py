"""`math-hash encode-features`: compute an encoder's features of a dataset once."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from math_hash.cli.flags import add_flags, given_options, new_parser
from math_hash.config import Config, make_config
from math_hash.errors import InputError

# fields of `Config` that determine the features; the others have no flag here
_OPTIONS = {
    "dataset", "device", "dataset_root", "image_root", "index_file", "caption_file", "label_file", "label_t_file",
    "max_words", "resolution", "num_workers", "on_bad_image", "clip_path", "encoder", "encoder_weights",
}  # fmt: skip
_HELP = """\
Compute an encoder's features of every row of a dataset, for --features (docs/features.md). Training with
--freeze-encoder computes and caches them automatically.

  math-hash encode-features --dataset flickr25k --output features
  math-hash train --dataset flickr25k --features features
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "encode-features", "compute an encoder's features once", _HELP)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; continues an interrupted run")
    add_flags(parser, without={item.name for item in fields(Config)} - _OPTIONS)
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
    from math_hash.training.setup import new_encoder, read_folder, rejected_pictures
    from math_hash.training.state import shows_progress

    accelerator = make_accelerator(config)
    folder = read_folder(config)
    rejected = rejected_pictures(config, folder, progress=shows_progress(accelerator))
    encoder = new_encoder(config, None)
    described = describe(encoder, folder, config.max_words)
    write_features(output, encoder, folder, config.max_words, accelerator, config.num_workers, described, rejected)
    if accelerator.is_main_process:
        print(f"{output}: features of {len(folder)} rows")
