"""A folder of precomputed features: plain `.npy` files, a row an instance of the dataset."""

from pathlib import Path

import numpy as np
import torch

from math_hash.errors import InputError

_ARRAYS = {
    "image": ("image_tokens", "image_pooled"),
    "text": ("text_tokens", "text_pooled", "text_length"),
    "label": ("label_tokens", "label_pooled", "label_length"),
}


class FeatureFolder:
    """Stored features of the n instances of a dataset, memory-mapped.

    Files, all of n rows, floats of any precision: `image_tokens.npy` (n, patches, w_i), `image_pooled.npy` (n, w_i);
    `text_tokens.npy` (n, length, w_t), `text_pooled.npy` (n, w_t) and `text_length.npy` (n,), the number of tokens
    that are no padding, markers included; the names of the labels as a third text: `label_tokens.npy`,
    `label_pooled.npy`, `label_length.npy`.

    Raises:
        InputError: a file is missing or damaged, or shapes do not fit together or to the dataset.
    """

    def __init__(self, folder: str | Path, rows: int):
        self.folder = Path(folder)
        self._arrays = {name: self._open(name, rows) for names in _ARRAYS.values() for name in names}
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

    def __getitem__(self, place: tuple[str, int]) -> dict[str, torch.Tensor]:
        """Features of one stream ("image", "text", "label") of one row, float32, as `PrecomputedEncoder` takes them."""
        stream, row = place
        tokens = torch.from_numpy(self._arrays[f"{stream}_tokens"][row].astype(np.float32))
        stored = {
            "tokens": tokens,
            "pooled": torch.from_numpy(self._arrays[f"{stream}_pooled"][row].astype(np.float32)),
        }
        if stream != "image":
            stored["padding"] = torch.arange(len(tokens)) >= int(self._arrays[f"{stream}_length"][row])
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
