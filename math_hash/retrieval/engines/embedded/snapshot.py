"""A snapshot of an embedded index: arrays of its rows on the disk, which searches read through memory maps.

A folder `snapshot-N` holds `codes.npy`, `ids.npy` and `rows.npy` (as `Segment` has them), `ivf.faiss` for approximate
search, and `manifest.json` with the SHA-256 sums of the others.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from math_hash.files import atomic_folder, read_json, require_sums, sums_of, write_text
from math_hash.retrieval.engines.embedded import ivf
from math_hash.retrieval.engines.embedded.segment import Segment
from math_hash.retrieval.uri import IvfOptions

FORMAT = 1
_ARRAYS = ("codes", "ids", "rows")


@dataclass
class Snapshot:
    """Rows of an index up to a row number.

    Attributes:
        segment: the rows.
        last_row: number of the last row that was there; the snapshot holds no later ones.
    """

    segment: Segment
    last_row: int = 0

    @staticmethod
    def folder(index: Path, generation: int) -> Path:
        """Where the snapshot of this number lies in the folder of an index."""
        return index / f"snapshot-{generation}"

    @classmethod
    def read(cls, folder: Path, ivf_options: IvfOptions | None) -> "Snapshot":
        """Open what `write` wrote; the arrays are memory-mapped.

        Args:
            ivf_options: open the approximate index too.

        Raises:
            InputError, OSError, ValueError, KeyError: it is missing or damaged.
        """
        manifest = read_json(folder / "manifest.json")
        require_sums(folder, manifest["sha256"])
        codes, ids, rows = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS)
        approximate = None
        if ivf_options and "ivf" in manifest:
            approximate = ivf.read(folder / "ivf.faiss", manifest["ivf"], ivf_options)
        return cls(Segment(codes, ids, rows, approximate), manifest["last_row"])

    def write(self, folder: Path, k_bits: int, model: str, ivf_options: IvfOptions | None) -> None:
        """Write the folder as a whole.

        Args:
            ivf_options: build an approximate index too, and measure its recall.

        Raises:
            InputError: it cannot be written.
        """
        arrays = (self.segment.codes, self.segment.ids, self.segment.rows)
        with atomic_folder(folder) as building:
            for name, array in zip(_ARRAYS, arrays, strict=True):
                with open(building / f"{name}.npy", "wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
            manifest = {"format": FORMAT, "k_bits": k_bits, "model": model, "count": len(self.segment)}
            manifest["last_row"] = self.last_row
            if ivf_options:
                manifest["ivf"] = ivf.build(building / "ivf.faiss", self.segment.codes, k_bits, ivf_options)
            manifest["sha256"] = sums_of(building)
            write_text(building / "manifest.json", json.dumps(manifest, indent=2) + "\n")
