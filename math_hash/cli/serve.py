"""`math-hash serve`: serve a search page and a JSON interface."""

import argparse
import os
from pathlib import Path

from math_hash.cli.flags import add_model_flags, new_parser, port_number
from math_hash.cli.search import add_rerank_flags
from math_hash.errors import InputError

_HELP = """\
Serve a page and a JSON interface for searching an index. It listens on this machine only, unless --host and --token are
given; adding and deleting rows needs --token. The interface is described at /openapi.json.

  math-hash serve photos.index --model RUN --image-root photos
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "serve", "serve a search page and a JSON interface", _HELP)
    parser.add_argument("index", metavar="URI", help="the index")
    parser.add_argument("--model", required=True, help="the model that made the codes")
    parser.add_argument("--image-root", type=Path, help="folder that image paths start from; no pictures without it")
    parser.add_argument("--images", dest="image_root", type=Path, help=argparse.SUPPRESS)
    add_model_flags(parser)
    parser.add_argument("--bits", type=int, help="number of bits, if the index was encoded with --bits")
    add_rerank_flags(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=port_number, default=8000, help="port (8000)")
    secret = os.environ.get("MATH_HASH_TOKEN", "")
    parser.add_argument("--token", default=secret, help="required for writing and for other hosts (MATH_HASH_TOKEN)")
    parser.add_argument("--max-bytes", type=int, default=20_000_000, help="size limit of an upload (20000000)")
    parser.add_argument("--max-pixels", type=int, default=50_000_000, help="limit for an uploaded picture (50000000)")
    parser.add_argument("--queue", type=int, default=32, help="requests that may wait (32)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds until a request times out (30)")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Open the index and the model, search once, and serve until interrupted."""
    from math_hash.models.device import choose_device
    from math_hash.models.load import load_model
    from math_hash.retrieval import open_index

    try:
        from math_hash.retrieval.server.app import make_app
        from math_hash.retrieval.server.serve import serve
    except ImportError as error:
        raise InputError(f"serving needs `pip install 'math_hash[serve]'` ({error.name} is missing)") from error
    if flags.image_root and not flags.image_root.is_dir():
        raise InputError(f"--image-root {flags.image_root}: no such folder")
    is_public = flags.host not in ("127.0.0.1", "localhost", "::1")
    with open_index(flags.index, create=False) as index:
        model = load_model(flags.model, choose_device(flags.device), flags.precision)
        if flags.bits is not None:
            model = model.with_bits(flags.bits)
        app = make_app(
            index, model, flags.image_root, token=flags.token, is_public=is_public, max_bytes=flags.max_bytes,
            max_pixels=flags.max_pixels, queue=flags.queue, seconds=flags.timeout, rerank=flags.rerank,
            codes=flags.codes, candidates=flags.candidates,
        )  # fmt: skip
        # so that code is compiled and weights are loaded before the first request arrives
        index.search(model.encode_text(["a first search"]), 1)
        print(f"{len(index)} rows of {index.uri}: http://{flags.host}:{flags.port}/   (Ctrl-C stops it)", flush=True)
        serve(app, flags.host, flags.port)
