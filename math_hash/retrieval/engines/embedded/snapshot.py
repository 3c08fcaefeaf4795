"""A snapshot of an embedded index: arrays of its rows on the disk, which searches read through memory maps.

A folder `snapshot-N` holds `codes.npy`, `ids.npy` and `rows.npy` (as `Segment` has them), `structure-*.npy` where exact
search has a structure, `ivf.faiss` for approximate search, and `manifest.json` with the SHA-256 sums of the others and
of itself.
"""

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.files import atomic_folder, read_json, require_sums, sums_of, write_text
from math_hash.hamming import choice
from math_hash.retrieval.engines.embedded import ivf
from math_hash.retrieval.engines.embedded.folder import DATABASE
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
        structure: that was stored with it: bucket, mih or scan; None in snapshots of version 0.1.
    """

    segment: Segment
    last_row: int = 0
    structure: str | None = None

    @staticmethod
    def folder(index: Path, generation: int) -> Path:
        """Where the snapshot of this number lies in the folder of an index."""
        return index / f"snapshot-{generation}"

    @classmethod
    def none(cls, words: int) -> "Snapshot":
        """That of an index without one: no rows, of codes of this many words."""
        return cls(Segment.empty(words, np.int64))

    @classmethod
    def in_effect(
        cls, index: Path, generation: int, words: int, ivf_options: IvfOptions | None, wanted: str | None
    ) -> "Snapshot":
        """The snapshot of this number in the folder of an index; none for number 0, and for one that is damaged."""
        if not generation:
            return cls.none(words)
        folder = cls.folder(index, generation)
        try:
            return cls.read(folder, ivf_options, wanted)
        except (InputError, OSError, ValueError, KeyError) as error:
            warnings.warn(f"{folder}: damaged ({error}); reading all rows from {DATABASE} instead", stacklevel=2)
            return cls.none(words)

    @classmethod
    def read(cls, folder: Path, ivf_options: IvfOptions | None, wanted: str | None) -> "Snapshot":
        """Open what `write` wrote; the arrays are memory-mapped.

        Args:
            ivf_options: open the approximate index too.
            wanted: structure to search with; rows are scanned if another one was stored. None: any.

        Raises:
            InputError, OSError, ValueError, KeyError: it is missing or damaged.
        """
        manifest = read_json(folder / "manifest.json")
        own = _sum_of(manifest)
        if manifest.get("own_sha256", own) != own:  # version 0.1 wrote none
            raise InputError(f"{folder / 'manifest.json'}: has changed since it was written")
        require_sums(folder, manifest["sha256"])
        codes, ids, rows = (_map(folder, name) for name in _ARRAYS)
        approximate = None
        if ivf_options and "ivf" in manifest:
            approximate = ivf.read(folder / "ivf.faiss", manifest["ivf"], ivf_options)
        stored, structure = manifest.get("structure", {}), None
        if stored.get("arrays") and wanted in (None, stored["name"]):
            arrays = {name: _map(folder, f"structure-{name}") for name in stored["arrays"]}
            structure = choice.read(stored["name"], codes, manifest["k_bits"], arrays)
        segment = Segment(codes, ids, rows, approximate, structure)
        return cls(segment, manifest["last_row"], stored.get("name"))

    def is_outdated(self, ivf_options: IvfOptions | None, wanted: str | None) -> bool:
        """Whether it lacks what an index with these options searches with."""
        is_other = self.structure is None or wanted not in (None, self.structure)
        return is_other or ivf.is_outdated(ivf_options, self.segment.ivf)

    def write(self, folder: Path, k_bits: int, model: str, ivf_options: IvfOptions | None, wanted: str | None) -> None:
        """Write the folder as a whole.

        Args:
            ivf_options: build an approximate index too, and measure its recall.
            wanted: structure of exact search; None: it is chosen from the codes.

        Raises:
            InputError: it cannot be written.
        """
        structure = choice.build(self.segment.codes, k_bits, wanted)
        arrays = {name: getattr(self.segment, name) for name in _ARRAYS}
        stored = structure.arrays if structure else {}
        with atomic_folder(folder, ["manifest.json"]) as building:
            for name, array in {**arrays, **{f"structure-{name}": array for name, array in stored.items()}}.items():
                with open(building / f"{name}.npy", "wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
            manifest = {"format": FORMAT, "k_bits": k_bits, "model": model, "count": len(self.segment)}
            manifest["structure"] = {"name": structure.name if structure else "scan", "arrays": list(stored)}
            manifest["last_row"] = self.last_row
            if ivf_options:
                manifest["ivf"] = ivf.build(building / "ivf.faiss", self.segment.codes, k_bits, ivf_options)
            manifest["sha256"] = sums_of(building)
            manifest["own_sha256"] = _sum_of(manifest)
            write_text(building / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def _sum_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of the rest of a manifest."""
    rest = {name: value for name, value in manifest.items() if name != "own_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _map(folder: Path, name: str) -> np.ndarray:
    """A memory-mapped array as a plain one: those of NumPy's own class are slow to index and to pass on."""
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
