"""A folder of precomputed features: plain `.npy` files, one row per instance of the dataset."""

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
    that are not padding, markers included; the names of the labels as a third text: `label_tokens.npy`,
    `label_pooled.npy`, `label_length.npy`. Of their own widths, and only for methods that use them:
    `image_stages.npy` and `text_stages.npy` (n, 4, w), pooled states of four depths.

    Args:
        folder: holds the files.
        rows: n, of the dataset.

    Raises:
        InputError: a file is missing or damaged, or shapes do not fit each other or the dataset.
    """

    def __init__(self, folder: str | Path, rows: int):
        self.folder = Path(folder)
        self._arrays = {name: self._open(name, rows) for names in _ARRAYS.values() for name in names}
        self.stage_widths: tuple[int, ...] | None = None
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
        """Features of one stream of some rows, as `PrecomputedEncoder` takes them.

        Args:
            stream: "image", "text" or "label".
            rows: b numbers of rows, in any order.
            needs: what to read; without `padding`, tokens that are padding in the whole batch are left out.

        Returns:
            `pooled` float32 (b, w); where needed, `tokens` float32 (b, length, w), `stages` float32 (b, 4, w) and, with
            the tokens of a text, `padding` bool (b, length).
        """
        numbers = np.asarray(rows)
        stored = {"pooled": self._read(self._arrays[f"{stream}_pooled"], numbers)}
        if needs.tokens:
            tokens = self._arrays[f"{stream}_tokens"]
            if stream == "image":
                stored["tokens"] = self._read(tokens, numbers)
            else:
                lengths = self._arrays[f"{stream}_length"][numbers].astype(np.int64)
                stored["tokens"] = self._read(tokens if needs.padding else tokens[:, : lengths.max()], numbers)
                positions = torch.arange(stored["tokens"].shape[1])
                stored["padding"] = positions >= torch.from_numpy(lengths)[:, None]
        if needs.stages:
            stored["stages"] = self._read(self._arrays[f"{stream}_stages"], numbers)
        return stored

    @staticmethod
    def _read(array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        """Some rows as float32, read in the order in which they lie in the file."""
        order = np.argsort(rows)
        values = np.empty((len(rows), *array.shape[1:]), np.float32)
        values[order] = array[rows[order]]
        return torch.from_numpy(values)

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
