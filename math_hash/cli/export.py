"""`math-hash export`: write a trained model in another format."""

import argparse
from pathlib import Path

from math_hash.errors import InputError

_HELP = """\
Write a trained model in another format: ONNX files, compared with PyTorch, or a folder for the Hugging Face Hub.

  math-hash export RUN --format onnx --output model.onnx
  math-hash export RUN --format pretrained --output model --push user/name
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = commands.add_parser(
        "export",
        help="write a trained model as ONNX, or for the hub",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="run folder, saved folder, released .pth, or user/name on the hub")
    parser.add_argument("--format", choices=("onnx", "pretrained"), required=True, help="format to write")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--push", metavar="USER/NAME", help="also upload it to the hub (with pretrained)")
    parser.add_argument("--private", action="store_true", help="for --push: keep the hub's repository private")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Write the model, and upload it if asked to."""
    from math_hash.models.load import load_model
    from math_hash.models.model import HashModel

    model = load_model(flags.model)
    if not isinstance(model, HashModel):
        raise InputError(f"{flags.model}: is already an exported model")
    if flags.format == "onnx":
        from math_hash.models.onnx import export_onnx

        if flags.push:
            raise InputError("--push: uploads the pretrained format; use --format pretrained")
        differences = export_onnx(model, flags.output)
        shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        print(f"{flags.output}: largest difference from PyTorch: {shown}")
        return
    from math_hash.models.hub import push_to_hub, save_pretrained

    save_pretrained(model, flags.output, flags.push or "")
    print(f"{flags.output}: open it with math_hash.load_model({str(flags.output)!r})")
    if flags.push:
        print(push_to_hub(model, flags.push, flags.private))
