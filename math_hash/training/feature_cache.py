"""Features of a frozen encoder, computed once and kept on disk.

A cache is a folder in the format of `FeatureFolder` (docs/features.md), float16, with a `features.json` that records
what it was made from. Its name in `cache/features/` is a hash of the encoder's weights, the dataset's files, the
transform and the length of texts, so a stale one is never used.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from math_hash.config import Config
from math_hash.data import EVERYTHING, DatasetFolder, FeatureFolder, PairDataset, TarMember, load_batches
from math_hash.encoders import Encoder
from math_hash.errors import InputError
from math_hash.files import read_json, sha256, write_text
from math_hash.models.model import HashModel
from math_hash.progress import is_watched
from math_hash.training.setup import Data

BATCH = 64  # fixed, so that a cache does not depend on how it was computed
_DONE, _DESCRIPTION = "done.npy", "features.json"


def with_cache(config: Config, model: HashModel, data: Data, accelerator: Accelerator) -> Data:
    """With `--freeze-encoder`, the data with the features of the model's encoder, computed if they are missing.

    Raises:
        InputError: a picture cannot be read, or the cache cannot be written.
    """
    if not config.freeze_encoder or data.features is not None:
        return data
    described = describe(model.encoder, data.folder, model.max_words)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(config.cache_dir) / f"{config.dataset}-{key}"
    if not folder.is_dir():
        workers, rejected = config.num_workers, data.rejected
        write_features(folder, model.encoder, data.folder, model.max_words, accelerator, workers, described, rejected)
    return replace(data, features=FeatureFolder(folder, len(data.folder)), is_cached=True)


def describe(encoder: Encoder, folder: DatasetFolder, max_words: int) -> dict[str, object]:
    """Everything that determines the features."""
    weights = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(value.detach().float().cpu().contiguous().numpy())
    return {
        "encoder_sha256": weights.hexdigest(),
        **encoder.describe(),
        "dataset": {
            name: sha256(folder.path / name)
            for name in ("index.mat", "caption.mat", "label_t.mat", "members.npy")
            if (folder.path / name).exists()
        },
        "pictures": pictures_sum(folder),
        "max_words": max_words,
    }


def pictures_sum(folder: DatasetFolder) -> str:
    """A hash of the paths, sizes and modification times of the pictures, or of the tar files that hold them."""
    seen = hashlib.sha256()
    for row in range(len(folder)):
        source = folder.image_path(row)
        path = source.tar if isinstance(source, TarMember) else source
        status = path.stat() if path.exists() else None
        seen.update(f"{path.resolve()} {status and (status.st_size, status.st_mtime_ns)}\n".encode())
    return seen.hexdigest()


def write_features(
    output: Path,
    encoder: Encoder,
    folder: DatasetFolder,
    max_words: int,
    accelerator: Accelerator,
    num_workers: int,
    described: dict[str, object],
    rejected: Collection[int] = (),
) -> None:
    """Encode every row, with the evaluation transform, over all processes; an interrupted call can be continued.

    Args:
        described: what determines the features, written as `features.json`; an interrupted call is continued by one
            with the same description.
        rejected: rows that are left out.

    Raises:
        InputError: a picture cannot be read, or the folder cannot be written.
    """
    building = output.with_name(f".{output.name}.partial")
    rows = np.setdiff1d(np.arange(len(folder)), np.fromiter(rejected, int))
    batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    dataset = PairDataset(folder, encoder.tokenizer, encoder.image_transform, max_words)
    encoder.to(accelerator.device).eval()
    try:
        if accelerator.is_main_process and not _is_begun(building, described):
            shutil.rmtree(building, ignore_errors=True)
            _allocate(building, encoder, len(folder), max_words, len(batches))
            write_text(building / _DESCRIPTION, json.dumps(described, indent=2) + "\n")
        accelerator.wait_for_everyone()
        arrays = {path.stem: np.load(path, mmap_mode="r+") for path in sorted(building.glob("*.npy"))}
        done = arrays.pop("done")
        mine = range(accelerator.process_index, len(batches), accelerator.num_processes)
        missing = [number for number in mine if not done[number]]
        loaded = load_batches(dataset, [batches[number] for number in missing], num_workers, accelerator.device)
        hidden = not accelerator.is_main_process
        every = 0.1 if is_watched() else 30  # seconds; without a terminal, a line in the log now and then
        with torch.inference_mode():
            bar = tqdm(loaded, "encoding features", len(missing), unit="batch", mininterval=every, disable=hidden)
            for number, inputs in zip(missing, bar, strict=True):
                _encode(arrays, encoder, inputs, batches[number])
                for array in arrays.values():
                    array.flush()
                done[number] = 1  # set only after the arrays are on the disk
                done.flush()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (building / _DONE).unlink()
            os.rename(building, output)
        accelerator.wait_for_everyone()
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}; free some space") from error


def _is_begun(building: Path, described: dict[str, object]) -> bool:
    path = building / _DESCRIPTION  # written after all arrays, so its presence means that they exist
    return path.is_file() and read_json(path) == json.loads(json.dumps(described))


def _allocate(building: Path, encoder: Encoder, rows: int, max_words: int, batches: int) -> None:
    building.mkdir(parents=True, exist_ok=True)
    device, side = next(encoder.parameters()).device, encoder.resolution
    ids = encoder.tokenize([""], max_words).to(device)
    blank = {"image": torch.zeros(1, 3, side, side, device=device), "text": ids, "label_text": ids}
    for name, values in _features(encoder, blank).items():
        is_length = name.endswith("_length")
        _array(building / f"{name}.npy", (rows, *values.shape[1:]), np.int64 if is_length else np.float16)
    _array(building / _DONE, (batches,), np.uint8)


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()


def _encode(arrays: dict[str, np.ndarray], encoder: Encoder, inputs: dict[str, Tensor], rows: np.ndarray) -> None:
    for name, values in _features(encoder, inputs).items():
        arrays[name][rows] = values.cpu().numpy()


def _features(encoder: Encoder, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays of a `FeatureFolder` for a batch; stages only if the encoder has them."""
    needs = replace(EVERYTHING, stages=encoder.stage_widths is not None)
    text, label = (encoder.encode_text(inputs[name], needs) for name in ("text", "label_text"))
    arrays: dict[str, Tensor | None] = {}
    for stream, features in (("image", encoder.encode_image(inputs["image"], needs)), ("text", text), ("label", label)):
        arrays[f"{stream}_tokens"], arrays[f"{stream}_pooled"] = features.tokens, features.pooled
        arrays[f"{stream}_stages"] = None if stream == "label" else features.stages
        arrays[f"{stream}_length"] = None if features.padding is None else (~features.padding).sum(dim=1)
    return {name: values for name, values in arrays.items() if values is not None}
