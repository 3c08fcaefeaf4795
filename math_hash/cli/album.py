"""`math-hash album`: from a folder of photographs to a page that searches them."""

import argparse
import os
import socket
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from math_hash.cli.flags import new_parser, port_number
from math_hash.cli.sync import add_album_flags, album_folder, described, open_album, watch
from math_hash.config import DEFAULT_CLIP_PATH
from math_hash.errors import InputError
from math_hash.files import atomic_folder
from math_hash.retrieval.album import OWN_MODEL, AlbumConfig, read_pictures
from math_hash.retrieval.album_files import CONFIG, list_pictures, with_sums

if TYPE_CHECKING:
    from math_hash.encoders import Encoder
    from math_hash.models.code_model import CodeModel
    from math_hash.models.model import HashModel

_FITTED_TO = 1024  # pictures, at most
_FEWEST_BITS, _MOST_BITS, _BITS = 64, 512, 256
_CHOICES = ("model", "clip_path", "encoder", "encoder_weights", "resolution", "bits_from", "bits")  # are kept
_HELP = """\
Make an album of a folder of photographs, and open its page. No training, labels or texts are needed: a pretrained CLIP
(ViT-B/32 of OpenAI by default) encodes the photographs, and its vectors become bits. To go on after an interruption, or
to open the page again, give the same command; what changed in the folder is taken up.

  math-hash album photos/
  math-hash album photos/ --watch                                   # new photographs appear while it runs
  math-hash album photos/ --encoder ViT-L-14 --encoder-weights openai
  math-hash album photos/ --model RUN                               # a trained model
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "album", "search a folder of photographs, without any training", _HELP)
    add_album_flags(parser)
    parser.add_argument("--model", help="a trained model, instead of an encoder")
    parser.add_argument("--clip-path", help=f"CLIP weights in OpenAI's names ({DEFAULT_CLIP_PATH}, if it is there)")
    parser.add_argument("--encoder", help="an open_clip model, by name or folder (ViT-B-32-quickgelu)")
    parser.add_argument("--encoder-weights", help="open_clip tag or weight file for --encoder (openai)")
    parser.add_argument("--resolution", type=int, help="side of the square that the encoder sees (224)")
    parser.add_argument(
        "--bits-from", choices=("ITQ", "PCA-rotation", "sign"), help="how vectors become bits (ITQ); see docs/album.md"
    )
    parser.add_argument("--bits", type=int, help=f"{_FEWEST_BITS} to {_MOST_BITS} ({_BITS}, or the encoder's width)")
    parser.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument("--port", type=port_number, default=8000, help="port of the page (8000)")
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def run(flags: argparse.Namespace) -> None:
    """Make the album if it is not there, bring it up to date, and serve its page until interrupted."""
    try:
        from math_hash.retrieval.server.app import make_app
        from math_hash.retrieval.server.serve import serve
    except ImportError as error:
        raise InputError(f"an album's page needs `pip install 'math_hash[serve]'` ({error.name} is missing)") from error
    folder = album_folder(flags)
    if (folder / CONFIG).exists():
        _require_same_choices(folder, flags)
    else:
        _begin(folder, flags)
    with open_album(flags) as album:
        print(described(album, album.sync(progress=os.isatty(2))), flush=True)
        app = make_app(album.index, album.model, album.photos)
        album.index.search(album.model.encode_text(["a first search"]), 1)  # so that code is compiled now
        address = f"http://127.0.0.1:{flags.port}/"
        print(f"{address}   (Ctrl-C stops it)", flush=True)
        stop = threading.Event()
        threads = [threading.Thread(target=watch, args=(album, flags.every, stop))] if flags.watch else []
        if not flags.no_open:
            threads.append(threading.Thread(target=_open_page, args=(address, flags.port, stop)))
        for thread in threads:
            thread.start()
        try:
            serve(app, "127.0.0.1", flags.port)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _choices(flags: argparse.Namespace) -> dict[str, Any]:
    """The given choices; files by their absolute paths."""
    given = {name: getattr(flags, name) for name in _CHOICES if getattr(flags, name) is not None}
    return {name: os.path.abspath(value) if os.path.exists(str(value)) else value for name, value in given.items()}


def _require_same_choices(folder: Path, flags: argparse.Namespace) -> None:
    made_with = AlbumConfig.read(folder).choices
    for name, value in _choices(flags).items():
        if made_with.get(name) != value:
            raise InputError(
                f"--{name.replace('_', '-')} {value}: {folder} was made with {made_with.get(name, 'the default')}; "
                "name another album, or delete this one to make it again"
            )


def _begin(folder: Path, flags: argparse.Namespace) -> None:
    """Write the album's model and configuration.

    Raises:
        InputError: the folder is there and is no album, holds no pictures, or the model cannot be had.
    """
    present = [path.name for path in folder.iterdir()] if folder.exists() else []
    if not all(name == OWN_MODEL or name.startswith(".") for name in present):  # these a killed process may have left
        raise InputError(f"{folder}: is there already and is no album; name another folder")
    choices, photos = _choices(flags), Path(os.path.abspath(flags.photos))
    if not list_pictures(photos, folder)[0]:
        raise InputError(f"{photos}: holds no pictures; expected one at least, better a hundred")
    if flags.model is None:
        fitted = _fitted(folder, flags)
        with atomic_folder(folder / OWN_MODEL) as building:
            fitted.save(building)
        model: CodeModel = fitted
    else:
        from math_hash.models.load import load_model

        if needless := choices.keys() - {"model"}:
            raise InputError(f"--model {flags.model}: is whole; leave out {', '.join(sorted(needless))}")
        model = load_model(flags.model)
    name = choices.get("model", OWN_MODEL)
    AlbumConfig(os.path.relpath(photos, folder), name, model.fingerprint, model.k_bits, choices).write(folder)


def _fitted(folder: Path, flags: argparse.Namespace) -> "HashModel":
    """A model without training, fitted to some of the photographs, which are spread over the folder."""
    import torch

    from math_hash.models.device import choose_device
    from math_hash.models.without_training import model_without_training

    if flags.bits is not None and not _FEWEST_BITS <= flags.bits <= _MOST_BITS:
        raise InputError(f"--bits {flags.bits}: expected {_FEWEST_BITS} to {_MOST_BITS}")
    photos = Path(os.path.abspath(flags.photos))
    files, _ = list_pictures(photos, folder)
    files, _ = with_sums(photos, files[:: -(-len(files) // _FITTED_TO) or 1], {})
    encoder = _encoder(flags)
    transform = encoder.image_transform
    batches = (
        torch.stack([picture.pixels for _, picture in batch if not isinstance(picture, str)])
        for batch in read_pictures(photos, files, transform)
        if not all(isinstance(picture, str) for _, picture in batch)
    )
    bits = flags.bits or min(_BITS, encoder.width)
    return model_without_training(encoder, flags.bits_from or "ITQ", bits, batches, choose_device(flags.device))


def _encoder(flags: argparse.Namespace) -> "Encoder":
    from math_hash.encoders import open_encoder
    from math_hash.encoders.weights import OPENAI_CLIP

    resolution = flags.resolution or 224
    clip_path = flags.clip_path or DEFAULT_CLIP_PATH
    if flags.encoder and flags.clip_path:
        raise InputError("--encoder excludes --clip-path; give one of them")
    if flags.encoder is None and (flags.clip_path or Path(clip_path).is_file()):
        return open_encoder(clip_path, resolution=resolution)
    try:
        weights = flags.encoder_weights or "openai"
        return open_encoder(clip_path, flags.encoder or "ViT-B-32-quickgelu", weights, resolution)
    except InputError as error:
        if flags.encoder:
            raise
        raise InputError(f"{error}; or put {OPENAI_CLIP} at {clip_path}") from error


def _open_page(address: str, port: int, stop: threading.Event) -> None:
    """Open the page in a browser once the server listens."""
    while not stop.wait(0.2):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            webbrowser.open(address)
            return
