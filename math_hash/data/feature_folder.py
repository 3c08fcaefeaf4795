"""A folder of precomputed features: plain `.npy` files, a row an instance of the dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from math_hash.data.needs import Needs
from math_hash.errors import InputError

_ARRAYS = {
    "image": ("image_tokens", "image_pooled"),
    "text": ("text_tokens", "text_pooled", "text_length"),
    "label": ("label_tokens", "label_pooled", "label_length"),
}

_STAGES = ("image_stages", "text_stages")


class FeatureFolder:
    """Stored features of the n instances of a dataset, memory-mapped.

    Files, all of n rows, floats of any precision: `image_tokens.npy` (n, patches, w_i), `image_pooled.npy` (n, w_i);
    `text_tokens.npy` (n, length, w_t), `text_pooled.npy` (n, w_t) and `text_length.npy` (n,), the number of tokens
    that are no padding, markers included; the names of the labels as a third text: `label_tokens.npy`,
    `label_pooled.npy`, `label_length.npy`. Of their own widths, and only for methods that use them:
    `image_stages.npy` and `text_stages.npy` (n, 4, w), pooled states of four depths.

    Raises:
        InputError: a file is missing or damaged, or shapes do not fit together or to the dataset.
    """

    def __init__(self, folder: str | Path, rows: int):
        self.folder = Path(folder)
        self._arrays = {name: self._open(name, rows) for names in _ARRAYS.values() for name in names}
        self.stage_widths = None
        if all((self.folder / f"{name}.npy").exists() for name in _STAGES):
            self._arrays.update((name, self._open(name, rows)) for name in _STAGES)
            self.stage_widths = tuple(self._arrays[name].shape[-1] for name in _STAGES)
            for name in _STAGES:
                if self._arrays[name].ndim != 3 or self._arrays[name].shape[1] != 4:
                    raise InputError(f"{self.folder}/{name}.npy: shape {self._arrays[name].shape}; expected (n, 4, w)")
        for name, dimensions in (("tokens", 3), ("pooled", 2)):
            for stream in _ARRAYS:
                if self._arrays[f"{stream}_{name}"].ndim != dimensions:
                    raise InputError(
                        f"{self.folder}/{stream}_{name}.npy: shape {self._arrays[f'{stream}_{name}'].shape}; "
                        f"expected {dimensions} dimensions"
                    )
        self.image_width, self.text_width = (self._width(stream) for stream in ("image", "text"))
        if self._width("label") != self.text_width:
            raise InputError(f"{self.folder}: label and text features differ in width; one encoder must make both")

    def batch(self, stream: str, rows: Sequence[int], needs: Needs) -> dict[str, torch.Tensor]:
        """Features of one stream ("image", "text", "label") of some rows, as `PrecomputedEncoder` takes them.

        Args:
            needs: what to read; without `padding`, tokens that are padding in the whole batch are left out.
        """
        rows = np.asarray(rows)
        order = np.argsort(rows)  # the file is read in its own order
        has_padding = stream != "image" and needs.tokens
        lengths = self._arrays[f"{stream}_length"][rows].astype(np.int64) if has_padding else None
        stored = {}
        for part in ("pooled", "tokens", "stages"):
            if part == "pooled" or getattr(needs, part):
                array = self._arrays[f"{stream}_{part}"]
                if has_padding and part == "tokens" and not needs.padding:
                    array = array[:, : lengths.max()]
                values = np.empty((len(rows), *array.shape[1:]), np.float32)
                values[order] = array[rows[order]]
                stored[part] = torch.from_numpy(values)
        if has_padding:
            stored["padding"] = torch.arange(stored["tokens"].shape[1]) >= torch.from_numpy(lengths)[:, None]
        return stored

    def _open(self, name: str, rows: int) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a readable array ({error}); see docs/features.md") from error
        if len(array) != rows:
            raise InputError(f"{path}: {len(array)} rows, but the dataset has {rows}; compute the features again")
        return array

    def _width(self, stream: str) -> int:
        tokens, pooled = (self._arrays[f"{stream}_{name}"].shape[-1] for name in ("tokens", "pooled"))
        if tokens != pooled:
            raise InputError(f"{self.folder}: {stream} tokens are {tokens} wide, pooled vectors {pooled}")
        return tokens
