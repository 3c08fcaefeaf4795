"""A folder of precomputed features: plain `.npy` files, one row per instance of the dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from math_hash.data.needs import Needs
from math_hash.errors import InputError
from math_hash.files import map_array

# arrays that are there together or not at all; the first ones always are
_GROUPS = (
    ("image_pooled", "text_pooled"),
    ("image_tokens",),
    ("text_tokens", "text_length"),
    ("label_pooled",),
    ("label_tokens", "label_length"),
    ("image_stages", "text_stages"),
)
_DIMENSIONS = {"tokens": 3, "pooled": 2, "length": 1, "stages": 3}


class FeatureFolder:
    """Stored features of the n instances of a dataset, memory-mapped.

    Files, all of n rows, floats of any precision: `image_pooled.npy` (n, w_i) and `text_pooled.npy` (n, w_t). Only for
    methods that use them: `image_tokens.npy` (n, patches, w_i); `text_tokens.npy` (n, length, w_t) and
    `text_length.npy` (n,), the number of tokens that are not padding, markers included; the names of the labels as a
    third text: `label_pooled.npy`, `label_tokens.npy`, `label_length.npy`; and, of their own widths,
    `image_stages.npy` and `text_stages.npy` (n, 4, w), pooled states of four depths.

    Args:
        folder: holds the files.
        rows: n, of the dataset.

    Raises:
        InputError: a file is missing or damaged, or shapes do not fit each other or the dataset.
    """

    def __init__(self, folder: str | Path, rows: int):
        self.folder = Path(folder)
        self._arrays: dict[str, np.ndarray] = {}
        for place, group in enumerate(_GROUPS):
            if place == 0 or any((self.folder / f"{name}.npy").exists() for name in group):
                self._arrays.update((name, self._open(name, rows)) for name in group)
        for name, array in self._arrays.items():
            stream, _, kind = name.partition("_")
            if array.ndim != _DIMENSIONS[kind] or (kind == "stages" and array.shape[1] != 4):
                expected = "(n, 4, w)" if kind == "stages" else f"{_DIMENSIONS[kind]} dimensions"
                raise InputError(f"{self.folder}/{name}.npy: shape {array.shape}; expected {expected}")
            pooled = self._arrays["text_pooled" if stream == "label" else f"{stream}_pooled"]
            if kind in ("tokens", "pooled") and array.shape[-1] != pooled.shape[-1]:
                raise InputError(
                    f"{self.folder}/{name}.npy: {array.shape[-1]} wide, pooled vectors {pooled.shape[-1]}; "
                    "one encoder must make both"
                )
        self.image_width, self.text_width = (self._arrays[name].shape[-1] for name in _GROUPS[0])
        stages = [self._arrays[name].shape[-1] for name in _GROUPS[-1] if name in self._arrays]
        self.stage_widths: tuple[int, ...] | None = tuple(stages) or None

    def require(self, needs: Needs) -> None:
        """Check that everything is here that a method reads.

        Raises:
            InputError: a file is missing.
        """
        kinds = [kind for kind in ("tokens", "stages") if getattr(needs, kind)]
        needed = [f"{stream}_{kind}" for stream in ("image", "text") for kind in kinds]
        if needs.label_text:
            needed += ["label_pooled", *(["label_tokens"] if needs.tokens else [])]
        if missing := [f"{name}.npy" for name in needed if name not in self._arrays]:
            raise InputError(
                f"{self.folder}: the method also needs {', '.join(missing)}; choose one that needs pooled vectors "
                "alone, such as `method` DSPH, or see docs/features.md"
            )

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
        array = map_array(self.folder / f"{name}.npy")
        if array.dtype.kind not in "fiu" or array.shape[:1] != (rows,):
            raise InputError(
                f"{self.folder}/{name}.npy: {array.dtype} {array.shape}, but the dataset has {rows} rows; "
                "compute the features again"
            )
        return array
