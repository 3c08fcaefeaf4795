"""`math-hash encode`: turn a collection of pictures or texts into a folder of codes."""

import argparse
import os
from pathlib import Path

from math_hash.cli.flags import add_model_flags, new_parser
from math_hash.errors import InputError

_HELP = """\
Turn a collection into codes. INPUT is a folder of pictures, a dataset folder, a table (.csv, .tsv, .jsonl) with
columns id, image, text, labels, a .txt file with one text per line, WebDataset tars ("shards/{000..099}.tar", a folder,
s3://bucket/shards), or embeddings: a folder of clip-retrieval, or parquet files with a column of vectors. To continue
an interrupted run, give the same command again.

  math-hash encode RUN photos/ --output photos.codes

On several GPUs or machines: accelerate launch -m math_hash encode ...
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "encode", "turn a collection of pictures or texts into codes", _HELP)
    parser.add_argument("model", help="run folder, saved folder, released .pth, or user/name on the hub")
    parser.add_argument("input", help="the collection")
    parser.add_argument("--output", type=Path, required=True, help="folder of codes to write")
    parser.add_argument(
        "--modality", choices=("image", "text"), help="what to encode (texts of a .txt file, otherwise pictures)"
    )
    parser.add_argument("--image-root", help="folder that image paths start from (a table's own folder)")
    for name, column in (("id", "id"), ("image", "image"), ("text", "text"), ("label", "labels")):
        parser.add_argument(f"--{name}-column", default=column, help=f"column of a table ({column})")
    parser.add_argument("--vector-column", default="", help="column of the vectors in parquet files (the only one)")
    parser.add_argument("--separator", default=",", help="separator of the labels in a cell (,)")
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows encoded at once (64)")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that decode pictures (2)")
    add_model_flags(parser, device="auto")
    parser.add_argument("--continuous", action="store_true", help="also keep continuous codes, for search --rerank")
    parser.add_argument("--parquet", action="store_true", help="also write codes.parquet: id, code, metadata")
    parser.add_argument("--vectors", choices=("int8",), help="also keep the encoder's vectors, for search --rerank")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Encode the collection."""
    from accelerate import Accelerator

    from math_hash.data.records import Columns
    from math_hash.models.device import use_device
    from math_hash.models.load import load_model
    from math_hash.retrieval.encode import encode_collection

    if flags.batch_size < 1 or flags.num_workers < 0:
        raise InputError("--batch-size: expected 1 or more; --num-workers: 0 or more")
    model = load_model(flags.model, use_device(flags.device), flags.precision)
    if flags.bits is not None:
        model = model.with_bits(flags.bits)
    folder = encode_collection(
        model, flags.input, flags.output, modality=flags.modality,
        columns=Columns(
            flags.image_column, flags.text_column, flags.label_column, flags.separator, flags.id_column,
            vector=flags.vector_column,
        ),
        image_root=flags.image_root, batch_size=flags.batch_size, num_workers=flags.num_workers,
        continuous=flags.continuous, vectors=flags.vectors is not None, parquet=flags.parquet,
        accelerator=Accelerator(), progress=os.isatty(2),
    )  # fmt: skip
    if folder:
        rejected = folder.config["rejected"]
        note = f", {rejected} could not be read: {flags.output / 'rejected.tsv'}" if rejected else ""
        print(f"{flags.output}: {folder.config['count']} codes of {folder.config['k_bits']} bits{note}")
