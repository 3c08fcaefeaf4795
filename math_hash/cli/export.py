"""`math-hash export`: write a trained model in another format."""

import argparse
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from math_hash.cli.flags import new_parser
from math_hash.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from math_hash.models.code_model import Modality
    from math_hash.models.model import HashModel

_EXAMPLES = 256  # real pictures and texts, on which a quantized model is compared with PyTorch

_HELP = """\
Write a trained model in another format: ONNX files, compared with PyTorch, or a folder for the Hugging Face Hub.

  math-hash export RUN --format onnx --output model.onnx
  math-hash export RUN --format onnx --output small.onnx --quantize int8 --compare-on photos/
  math-hash export RUN --format pretrained --output model --push user/name
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "export", "write a trained model as ONNX, or for the hub", _HELP)
    parser.add_argument("model", help="run folder, saved folder, released .pth, or user/name on the hub")
    parser.add_argument("--format", choices=("onnx", "pretrained"), required=True, help="format to write")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--quantize", choices=("int8",), help="with onnx: weights in int8, a quarter of the size")
    parser.add_argument(
        "--compare-on", type=Path, metavar="INPUT",
        help=f"collection, as `math-hash encode` takes it, on whose first {_EXAMPLES} rows bits are compared",
    )  # fmt: skip
    parser.add_argument("--push", metavar="USER/NAME", help="also upload it to the hub (with pretrained)")
    parser.add_argument("--private", action="store_true", help="for --push: keep the hub's repository private")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Write the model, and upload it if asked to."""
    from math_hash.models.load import load_model
    from math_hash.models.model import HashModel

    if flags.quantize and (flags.format != "onnx" or not flags.compare_on):
        raise InputError(
            "--quantize: needs --format onnx, and --compare-on INPUT, pictures or texts to compare bits on"
        )
    if flags.compare_on and not flags.quantize:
        raise InputError("--compare-on: compares bits with those of a quantized model; give --quantize int8 too")
    if flags.private and not flags.push:
        raise InputError("--private: is for the hub's repository; give --push USER/NAME too")
    model = load_model(flags.model)
    if not isinstance(model, HashModel):
        raise InputError(f"{flags.model}: is already an exported model")
    if flags.format == "onnx":
        from math_hash.models.onnx import export_onnx

        if flags.push:
            raise InputError("--push: uploads the pretrained format; use --format pretrained")
        if flags.quantize:
            _export_int8(model, flags.output, flags.compare_on)
            return
        differences = export_onnx(model, flags.output)
        shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        print(f"{flags.output}: largest difference from PyTorch: {shown}; {_size(flags.output)}")
        return
    from math_hash.models.hub import push_to_hub, save_pretrained

    save_pretrained(model, flags.output, flags.push or "")
    print(f"{flags.output}: open it with math_hash.load_model({str(flags.output)!r})")
    if flags.push:
        print(push_to_hub(model, flags.push, flags.private))


def _export_int8(model: "HashModel", output: Path, source: Path) -> None:
    from math_hash.models.onnx import export_onnx
    from math_hash.models.onnx_int8 import quantize_onnx

    images, texts = _examples(model, source)
    with tempfile.TemporaryDirectory() as work:
        exported = Path(work) / "float32"
        export_onnx(model, exported)
        agreement = quantize_onnx(model, exported, output, images, texts)
        before = _size(exported)
    for modality, count in (("image", len(images)), ("text", len(texts))):
        if count:
            print(f"{output}: agreement: {100 * agreement[modality]:.2f} % of bits of {count} {modality}s")
    print(f"{output}: {_size(output)}; in float32 {before}")


def _examples(model: "HashModel", source: Path) -> "tuple[Tensor, list[str]]":
    """The first pictures, as `encode_image` takes them, and the first texts of a collection."""
    import torch

    from math_hash.data.images import open_image
    from math_hash.data.records import Columns
    from math_hash.retrieval.sources import image_file, open_collection

    def records(modality: "Modality") -> list:
        of_modality = open_collection(model, source, modality, Columns()).records()
        return list(islice((record for record in of_modality if not record.problem), _EXAMPLES))

    root = open_collection(model, source, "image", Columns()).root
    files = [image_file(root, record) for record in records("image")]
    texts = [" ".join(record.texts) for record in records("text")]
    if not files and not texts:
        raise InputError(f"--compare-on {source}: holds neither pictures nor texts")
    pixels = [model.image_transform(open_image(file).convert("RGB")) for file in files]
    return torch.stack(pixels) if pixels else torch.empty(0), texts


def _size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f} MB"
