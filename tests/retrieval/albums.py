"""Photographs and albums for tests; run as a script, it syncs an album once per place, and is killed there.

python albums.py ALBUM COPIES     # COPIES/0, COPIES/1, ...: one album for each of `PLACES`, left as the kill left it
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from math_hash.retrieval import album
from math_hash.retrieval.engines.embedded import index, snapshot, store

# what is killed, at which of its calls, and whether after that call or before
PLACES = [
    (album, "with_sums", 1, "after"),
    (album, "write_manifest", 1, "after"),
    (store.Store, "set_metadata", 1, "after"),  # inside a transaction
    (index.EmbeddedIndex, "set_metadata", 1, "after"),
    (store.Store, "insert", 2, "after"),  # inside the transaction of the second batch
    (index.EmbeddedIndex, "_add", 2, "after"),
    (store.Store, "delete", 1, "after"),  # inside a transaction
    (index.EmbeddedIndex, "_delete", 1, "after"),
    (album, "write_rejected", 1, "before"),
    (snapshot.Snapshot, "write", 1, "after"),
    (store.Store, "set_generation", 1, "after"),  # inside a transaction
]


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(path)


def begin(folder: Path, photos: Path, run: Path, model) -> None:
    """Begin an album with a trained model."""
    relative = os.path.relpath(photos, folder)
    album.AlbumConfig(relative, str(run), model.fingerprint, model.k_bits).write(folder)


def content_of(opened: album.Album) -> dict:
    """Codes and metadata of the rows, by id."""
    ids = opened.index.all_codes()[0].tolist()
    return {
        row_id: (code.tobytes(), metadata) for row_id, (code, metadata) in zip(ids, opened.index.rows(ids), strict=True)
    }


def _kill_at(owner, name: str, call: int, when: str) -> None:
    original, calls = getattr(owner, name), 0

    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    import torch

    from math_hash.models.load import load_model

    torch.set_num_threads(1)
    album._BATCH = 4
    model = load_model(album.AlbumConfig.read(Path(sys.argv[1])).model)
    for number, place in enumerate(PLACES):
        copy = Path(sys.argv[2], str(number))
        shutil.copytree(sys.argv[1], copy)
        child = os.fork()  # importing PyTorch and opening the model once is enough
        if child == 0:
            _kill_at(*place)
            album.Album(copy, lambda _: model).sync()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, place
