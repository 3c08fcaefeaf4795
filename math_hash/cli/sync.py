"""`math-hash sync`: bring an album up to date with its folder of photographs."""

import argparse
import os
import sys
import threading
from collections import Counter
from pathlib import Path

from math_hash.cli.flags import add_model_flags, new_parser
from math_hash.errors import InputError
from math_hash.retrieval.album import Album
from math_hash.retrieval.album_files import Changes

_HELP = """\
Take up what changed in the photographs of an album: files that were added, changed, moved or deleted, told by contents.
It may be interrupted at any moment; the next sync goes on. Files that cannot be used are in skipped.tsv of the album.

  math-hash sync photos/
  math-hash sync photos/ --watch
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `math-hash`."""
    parser = new_parser(commands, "sync", "bring an album up to date with its photographs", _HELP)
    add_album_flags(parser)
    parser.set_defaults(handler=lambda flags: run(argparse.Namespace(**flags)))


def add_album_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `math-hash album` and `math-hash sync` share."""
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("album", type=Path, nargs="?", help="folder of the album (photos.album beside the photographs)")
    parser.add_argument("--watch", action="store_true", help="sync again whenever something changed, until Ctrl-C")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks, with --watch (5)")
    add_model_flags(parser, device="auto")


def run(flags: argparse.Namespace) -> None:
    """Sync once, or again and again."""
    with open_album(flags) as album:
        print(described(album, album.sync(progress=os.isatty(2))), flush=True)
        if flags.watch:
            try:
                watch(album, flags.every, threading.Event())
            except KeyboardInterrupt:
                print("stopped")


def album_folder(flags: argparse.Namespace) -> Path:
    """The folder of the album that the flags name.

    Raises:
        InputError: the photographs are the root of a disk, and no album is named.
    """
    photos = Path(os.path.abspath(flags.photos))
    if not (flags.album or photos.name):
        raise InputError(f"{photos}: name the folder of the album too: math-hash {flags.command} {photos} ALBUM")
    return Path(os.path.abspath(flags.album or photos.with_name(f"{photos.name}.album")))


def open_album(flags: argparse.Namespace) -> Album:
    """Open the album that the flags name.

    Raises:
        InputError: no album is there, it is damaged, or it is that of another folder.
    """
    if flags.every <= 0:
        raise InputError(f"--every {flags.every}: expected more than 0 seconds")

    def load(name):  # PyTorch is imported only if there is something to encode
        from math_hash.models.device import choose_device
        from math_hash.models.load import load_model

        return load_model(name, choose_device(flags.device), flags.precision)

    album = Album(album_folder(flags), load)
    if album.photos != Path(os.path.abspath(flags.photos)):
        album.index.close()
        raise InputError(
            f"{album.folder}: is the album of {album.photos}, not of {flags.photos}; if the folder has moved, change "
            '"photos" in album.json'
        )
    return album


def described(album: Album, changes: Changes) -> str:
    """What a sync did, in one line."""
    counts = ", ".join(f"{len(getattr(changes, name))} {name}" for name in ("added", "changed", "moved", "deleted"))
    text = f"{album.folder}: {changes.pictures} photographs: {counts}"
    if changes.skipped:
        reasons = Counter(reason for _, reason in changes.skipped).most_common()
        listed = "; ".join(f"{count} {reason}" for reason, count in reasons[:3]) + ("; ..." if reasons[3:] else "")
        text += f", {len(changes.skipped)} skipped ({listed}): {album.folder / 'skipped.tsv'}"
    return text


def watch(album: Album, seconds: float, stop: threading.Event) -> None:
    """Sync an album every few seconds until `stop` is set, and print what changed; errors do not end it."""
    told = ""
    while not stop.wait(seconds):
        try:
            changes = album.sync(stop=stop)
        except InputError as error:  # such as a disk that is away for a while; said once
            if told != str(error):
                told = str(error)
                print(f"error: {told}", file=sys.stderr, flush=True)
            continue
        told = ""
        if changes:
            print(described(album, changes), flush=True)
