"""`math-hash encode | index | search | serve | export`: from a trained model to a search."""

import argparse
import base64
import html
import itertools
import json
import os
from pathlib import Path
from typing import Any

from math_hash.errors import InputError
from math_hash.files import write_text

_BATCH = 50_000  # rows added to an index at once

_ENCODE = """\
Turn a collection into codes. INPUT is a folder of pictures, a dataset's folder, a table (.csv, .tsv, .jsonl) with
columns id, image, text, label, a .txt file with one text a line, or WebDataset tars. A killed run goes on.

  math-hash encode RUN photos/ --output photos.codes

On several GPUs or machines: accelerate launch -m math_hash encode ...
"""
_INDEX = """\
Put codes into an index: a folder, Milvus or PostgreSQL. Codes whose ids are there already are refused.

  math-hash index photos.codes --to photos.index
  math-hash index photos.codes --to milvus://localhost:19530/photos
  math-hash index photos.codes --to "postgresql://me@localhost/album?table=photos"
"""
_SEARCH = """\
Search an index by words or by a picture.

  math-hash search photos.index --model RUN --text "two dogs on a beach" --images photos --html found.html
  math-hash search photos.index --model RUN --image photo.jpg --radius 10 --filter label=dog
"""
_SERVE = """\
Serve a page and a JSON interface for searching an index. It listens on this machine only, unless --host and --token say
otherwise; adding and deleting rows needs --token. The interface is described at /openapi.json.

  math-hash serve photos.index --model RUN --images photos
"""
_EXPORT = """\
Write a trained model in another form: ONNX files, compared with PyTorch, or a folder for the Hugging Face Hub.

  math-hash export RUN --format onnx --output model.onnx
  math-hash export RUN --format pretrained --output model --push user/name
"""


def add_commands(commands) -> None:
    """Add the commands to those of `math-hash`."""
    parser = _command(commands, "encode", "turn a collection of pictures or texts into codes", _ENCODE, _encode)
    parser.add_argument("model", help="run folder, saved folder, released .pth, or user/name on the hub")
    parser.add_argument("input", type=Path, help="the collection")
    parser.add_argument("--output", type=Path, required=True, help="folder of codes to write")
    parser.add_argument(
        "--modality", choices=("image", "text"), help="what to encode (texts of a .txt file, else pictures)"
    )
    parser.add_argument("--image-root", help="what image paths start from (a table's own folder)")
    for name in ("id", "image", "text", "label"):
        parser.add_argument(f"--{name}-column", default=name, help=f"column of a table ({name})")
    parser.add_argument("--separator", default=",", help="between two labels in one cell (,)")
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows encoded at once (64)")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that decode pictures (2)")
    parser.add_argument("--continuous", action="store_true", help="keep continuous codes too, for search --rerank")

    parser = _command(commands, "index", "put codes into an index", _INDEX, _index)
    parser.add_argument("codes", type=Path, help="folder that `math-hash encode` wrote")
    parser.add_argument("--to", required=True, metavar="URI", help="a folder, milvus://... or postgresql://...")
    parser.add_argument("--bits", type=int, help="keep this many bits, the most significant ones (all)")

    parser = _command(commands, "search", "search an index by words or by a picture", _SEARCH, _search)
    parser.add_argument("index", metavar="URI", help="the index")
    parser.add_argument("--model", required=True, help="the model that made the codes")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--text", help="words to search for")
    asked.add_argument("--image", type=Path, help="picture to search for")
    parser.add_argument("--top", type=int, default=20, help="how many results (20)")
    parser.add_argument("--radius", type=int, help="all rows within this Hamming distance instead")
    parser.add_argument("--filter", nargs="+", default=[], metavar="NAME=VALUE", help="metadata that results must have")
    parser.add_argument("--bits", type=int, help="search with this many bits, as the index was encoded")
    parser.add_argument(
        "--rerank", type=Path, metavar="CODES", help="order candidates by the continuous codes in there"
    )
    parser.add_argument("--candidates", type=int, default=200, help="how many to rerank (200)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON")
    shown.add_argument("--html", type=Path, metavar="FILE", help="write a contact sheet that opens in a browser")
    parser.add_argument("--images", type=Path, help="folder that image paths start from, for --html")

    parser = _command(commands, "serve", "serve a search page and a JSON interface", _SERVE, _serve)
    parser.add_argument("index", metavar="URI", help="the index")
    parser.add_argument("--model", required=True, help="the model that made the codes")
    parser.add_argument("--images", type=Path, help="folder that image paths start from; no pictures without it")
    parser.add_argument("--bits", type=int, help="search with this many bits, as the index was encoded")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port (8000)")
    secret = os.environ.get("MATH_HASH_TOKEN", "")
    parser.add_argument("--token", default=secret, help="for writing, and for other hosts (MATH_HASH_TOKEN)")
    parser.add_argument("--max-bytes", type=int, default=20_000_000, help="of an upload (20000000)")
    parser.add_argument("--max-pixels", type=int, default=50_000_000, help="of an uploaded picture (50000000)")
    parser.add_argument("--queue", type=int, default=32, help="requests that may wait (32)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds after which a request is given up (30)")

    parser = _command(commands, "export", "write a trained model as ONNX, or for the hub", _EXPORT, _export)
    parser.add_argument("model", help="run folder, saved folder, released .pth, or user/name on the hub")
    parser.add_argument("--format", choices=("onnx", "pretrained"), required=True, help="form to write")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--push", metavar="USER/NAME", help="upload it to the hub too (with pretrained)")
    parser.add_argument("--private", action="store_true", help="for --push: keep the hub's repository private")


def _command(commands, name: str, summary: str, text: str, handler) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(handler=lambda flags: handler(argparse.Namespace(**flags)))
    return parser


def _open_model(flags: argparse.Namespace, device: str = "cpu"):
    from math_hash.models.load import load_model

    model = load_model(flags.model, device)
    if getattr(flags, "bits", None) is not None:
        if not hasattr(model, "keep_bits"):
            raise InputError(f"--bits {flags.bits}: this model's form keeps all of its bits; export it with fewer")
        model.keep_bits(flags.bits)
    return model


def _encode(flags: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from math_hash.data.collection import Columns
    from math_hash.retrieval.encode import encode_collection

    if flags.batch_size < 1 or flags.num_workers < 0:
        raise InputError("--batch-size: expected 1 or more; --num-workers: 0 or more")
    accelerator = Accelerator()
    columns = Columns(flags.image_column, flags.text_column, flags.label_column, flags.separator, flags.id_column)
    folder = encode_collection(
        _open_model(flags, accelerator.device), flags.input, flags.output, modality=flags.modality, columns=columns,
        image_root=flags.image_root, batch_size=flags.batch_size, num_workers=flags.num_workers,
        continuous=flags.continuous, accelerator=accelerator, progress=os.isatty(2),
    )  # fmt: skip
    if folder:
        rejected = folder.config["rejected"]
        note = f", {rejected} could not be read: {flags.output / 'rejected.tsv'}" if rejected else ""
        print(f"{flags.output}: {folder.config['count']} codes of {folder.config['k_bits']} bits{note}")


def _index(flags: argparse.Namespace) -> None:
    from tqdm import tqdm

    from math_hash.retrieval import open_index
    from math_hash.retrieval.encode import CodesFolder

    folder = CodesFolder.open(flags.codes)
    folder = folder.keep_bits(flags.bits) if flags.bits is not None else folder
    config = folder.config
    with open_index(flags.to, config["k_bits"], config["model"]) as index:
        rows, start = folder.rows(), 0
        bar = tqdm(total=config["count"], desc="indexing", unit="code", disable=not os.isatty(2))
        while block := list(itertools.islice(rows, _BATCH)):
            ids, metadata = zip(*block, strict=True)
            index.add(ids, folder.codes[start : start + len(block)], metadata)
            start += len(block)
            bar.update(len(block))
        bar.close()
        index.save()
        print(f"{index.uri}: {len(index)} codes of {index.k_bits} bits")
        if (recall := getattr(index, "recall", None)) is not None:
            print(f"approximate search finds {recall:.4f} of the true 10 nearest; raise nprobe where that is too few")


def _search(flags: argparse.Namespace) -> None:
    from math_hash.retrieval import open_index
    from math_hash.retrieval.encode import CodesFolder
    from math_hash.retrieval.rerank import Reranker

    where = dict(_condition(text) for text in flags.filter)
    if flags.image and not flags.image.is_file():
        raise InputError(f"--image {flags.image}: no such picture")
    with open_index(flags.index, create=False) as index:
        model = _open_model(flags)
        index.require_model(model.fingerprint, model.k_bits)
        encode, asked = (model.encode_text, flags.text) if flags.text is not None else (model.encode_image, flags.image)
        code = encode([asked])
        if flags.radius is not None:
            found = index.search_radius(code, flags.radius, where)[0]
        elif flags.rerank:
            candidates = index.search(code, max(flags.candidates, flags.top), where)
            rerank = Reranker(CodesFolder.open(flags.rerank))
            found = rerank(encode([asked], output="continuous"), candidates, flags.top)[0]
        else:
            found = index.search(code, flags.top, where)[0]
        metadata = [row[1] if row else {} for row in index.rows(found.ids.tolist())]
    results = [
        {"rank": rank, "id": name, "distance": distance, "metadata": about}
        for rank, (name, distance, about) in enumerate(
            zip(found.ids.tolist(), found.distances.tolist(), metadata, strict=True), start=1
        )
    ]
    if flags.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
    elif flags.html:
        _write_sheet(flags.html, str(asked), results, flags.images)
        print(f"{len(results)} results: {flags.html}")
    else:
        _print_table(results)


def _condition(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--filter {text}: expected NAME=VALUE, such as label=dog")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    return name, parsed if isinstance(parsed, str | int | float | bool) else value


def _words(about: dict[str, Any]) -> tuple[str, str]:
    labels = about.get("label") or []
    return ", ".join(labels) if isinstance(labels, list) else str(labels), str(about.get("text") or "")


def _print_table(results: list[dict[str, Any]]) -> None:
    if not results:
        print("nothing found")
        return
    width = max(len(str(result["id"])) for result in results)
    print(f"rank  distance  {'id':{width}}  labels | text")
    for result in results:
        labels, text = _words(result["metadata"])
        about = " | ".join(part for part in (labels, text) if part)
        print(f"{result['rank']:4d}  {result['distance']:8d}  {result['id']!s:{width}}  {about[:100]}")


def _write_sheet(path: Path, asked: str, results: list[dict[str, Any]], images: Path | None) -> None:
    from math_hash.retrieval.thumbnail import thumbnail

    cells = []
    for result in results:
        labels, text = _words(result["metadata"])
        picture = thumbnail(images, result["metadata"], 240) if images else None
        content = base64.b64encode(picture or b"").decode()
        image = f'<img alt="" src="data:image/jpeg;base64,{content}">' if picture else ""
        words = html.escape(text[:120] or str(result["id"]))
        cells.append(
            f"<figure>{image}<figcaption><b>distance {result['distance']}</b> {html.escape(labels)}<br>{words}"
        )
    style = (
        "body{font:15px system-ui,sans-serif;margin:1rem}main{display:grid;gap:12px;"
        "grid-template-columns:repeat(auto-fill,minmax(160px,1fr))}figure{margin:0;border:1px solid #8885;"
        "border-radius:8px;overflow:hidden}img{width:100%;aspect-ratio:1;object-fit:cover}figcaption{padding:6px 8px;"
        "font-size:13px;overflow-wrap:anywhere}"
    )
    title = f"<title>{html.escape(asked)}</title>"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{style}</style>'
    write_text(path, f"{head}<h1>{html.escape(asked)}</h1><main>{''.join(cells)}</main></html>\n")


def _serve(flags: argparse.Namespace) -> None:
    from math_hash.retrieval import open_index

    try:
        from math_hash.retrieval.server.app import make_app, serve
    except ImportError as error:
        raise InputError(f"serving needs `pip install 'math_hash[serve]'` ({error.name} is missing)") from error
    if flags.images and not flags.images.is_dir():
        raise InputError(f"--images {flags.images}: no such folder")
    is_public = flags.host not in ("127.0.0.1", "localhost", "::1")
    with open_index(flags.index, create=False) as index:
        model = _open_model(flags)
        app = make_app(
            index, model, flags.images, token=flags.token, is_public=is_public, max_bytes=flags.max_bytes,
            max_pixels=flags.max_pixels, queue=flags.queue, seconds=flags.timeout,
        )  # fmt: skip
        index.search(model.encode_text(["the first search loads what the others find loaded"]), 1)
        print(f"{len(index)} rows of {index.uri}: http://{flags.host}:{flags.port}/   (Ctrl-C ends it)", flush=True)
        serve(app, flags.host, flags.port)


def _export(flags: argparse.Namespace) -> None:
    model = _open_model(flags)
    if not hasattr(model, "save"):
        raise InputError(f"{flags.model}: is an exported model already")
    if flags.format == "onnx":
        from math_hash.models.onnx import export_onnx

        if flags.push:
            raise InputError("--push: uploads the pretrained form; use --format pretrained")
        differences = export_onnx(model, flags.output)
        shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        print(f"{flags.output}: largest difference from PyTorch: {shown}")
        return
    from math_hash.models.hub import push_to_hub, save_pretrained

    save_pretrained(model, flags.output, flags.push or "")
    print(f"{flags.output}: open it with math_hash.load_model({str(flags.output)!r})")
    if flags.push:
        print(push_to_hub(model, flags.push, flags.private))
