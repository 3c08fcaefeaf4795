"""A cache of resized pictures: each is stored when it is first decoded, and later read from a memory-mapped file.

The transforms are deterministic, so a picture has two forms, one for training and one for evaluation. A cache is a
folder of `train.npy` and `plain.npy`, uint8 (rows, 3, resolution, resolution), and `done.npy`, uint8 (2, rows), which
marks the rows that have been written. Its name is a hash of the pictures' paths, sizes and modification times, so a
stale one is never used. The files are sparse: rows not yet written take no space. If `--image-cache` is too small for
all rows, only the first ones are cached.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from math_hash.config import Config
from math_hash.errors import InputError
from math_hash.files import atomic_folder
from math_hash.models.model import HashModel
from math_hash.training.feature_cache import pictures_sum
from math_hash.training.setup import Data

FORMS = ("plain", "train")


class ImageCache:
    """An open cache; data loader workers and processes share it.

    Raises:
        InputError: it is damaged.
    """

    def __init__(self, folder: Path):
        try:
            self._pixels = [np.load(folder / f"{name}.npy", mmap_mode="r+", allow_pickle=False) for name in FORMS]
            self._done = np.load(folder / "done.npy", mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: not a readable cache of pictures ({error}); delete it") from error

    def pixels(self, row: int, train: bool, make: Callable[[], Tensor]) -> Tensor:
        """A row's picture, uint8 (3, resolution, resolution): from the cache, or made and cached."""
        form = int(train)
        if row >= self._done.shape[1]:
            return make()
        if not self._done[form, row]:
            self._pixels[form][row] = make().numpy()
            self._done[form, row] = 1  # set only after the pixels are written
        return torch.from_numpy(np.array(self._pixels[form][row]))


def with_image_cache(config: Config, model: HashModel, data: Data, accelerator: Accelerator) -> Data:
    """With `--image-cache`, the data with a cache of resized pictures, which is created if it is missing.

    Raises:
        InputError: it cannot be written.
    """
    if not config.image_cache or data.features is not None or not model.encoder.takes_pictures:
        return data
    side = model.encoder.resolution
    rows = min(len(data.folder), int(config.image_cache * 1e9) // (len(FORMS) * 3 * side * side))
    described = json.dumps([pictures_sum(data.folder), side, rows, *model.encoder.image_transform.resizing])
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    folder = Path(config.cache_dir) / f"{config.dataset}-pictures-{key}"
    if accelerator.is_main_process and not folder.is_dir():
        needed = rows * len(FORMS) * 3 * side * side
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < needed:
            raise InputError(
                f"`image_cache` {config.image_cache:g}: {folder.parent} lacks {needed / 1e9:.1f} GB; lower it"
            )
        with atomic_folder(folder) as building:
            for name in FORMS:
                shape = (rows, 3, side, side)
                np.lib.format.open_memmap(building / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
            np.save(building / "done.npy", np.zeros((len(FORMS), rows), np.uint8))
            os.sync()
    accelerator.wait_for_everyone()
    return replace(data, image_cache=ImageCache(folder))
