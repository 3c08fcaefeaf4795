"""All codes of a collection, wherever they lie: in an index, or in a folder of codes. No model is needed."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.opening import open_index

Row = tuple[Any, dict[str, Any]]  # id, metadata


@dataclass(frozen=True)
class StoredCodes:
    """The codes of n rows.

    Attributes:
        name: the index's URI, or the folder.
        k_bits: length of the codes.
        model: fingerprint of the model that made them; "" if unknown.
        codes: packed, uint8 (n, ceil(k_bits / 8)).
        ids: called for all ids.
        rows: called with places, int64 (m,), for the rows there, by their places.
    """

    name: str
    k_bits: int
    model: str
    codes: np.ndarray
    ids: Callable[[], list[Any]]
    rows: Callable[[np.ndarray], dict[int, Row]]

    @classmethod
    def open(cls, name: str, opened: ExitStack) -> "StoredCodes":
        """Open an index or a folder of codes; `opened` closes it.

        Raises:
            InputError: it is missing or damaged, or the index's engine does not hand out its codes.
        """
        return _of_folder(name) if (Path(name) / "config.json").is_file() else _of_index(name, opened)

    def require_same_codes(self, other: "StoredCodes") -> None:
        """Raises InputError if the other codes are of another length or model."""
        if self.k_bits != other.k_bits:
            raise InputError(f"{other.name}: codes of {other.k_bits} bits, but {self.name} has {self.k_bits}")
        if self.model and other.model and self.model != other.model:
            raise InputError(f"{other.name}: codes of another model than {self.name}; distances would mean nothing")


def _of_folder(name: str) -> StoredCodes:
    folder = CodesFolder.open(name)

    def ids() -> list[Any]:
        return [row_id for row_id, _ in folder.rows()]

    def rows(places: np.ndarray) -> dict[int, Row]:
        wanted = set(places.tolist())
        return {place: row for place, row in enumerate(folder.rows()) if place in wanted}

    return StoredCodes(name, folder.config["k_bits"], folder.config["model"], folder.codes, ids, rows)


def _of_index(name: str, opened: ExitStack) -> StoredCodes:
    index = opened.enter_context(open_index(name, create=False))
    all_ids, codes = index.all_codes()

    def rows(places: np.ndarray) -> dict[int, Row]:
        ids = all_ids[places].tolist()
        metadata = (row[1] if row else {} for row in index.rows(ids))
        return dict(zip(places.tolist(), zip(ids, metadata, strict=True), strict=True))

    return StoredCodes(name, index.k_bits, index.model, codes, all_ids.tolist, rows)
