"""A folder of codes, as `encode_collection` writes it.

It holds `codes.npy`, packed codes uint8 (n, ceil(k / 8)); `rows.jsonl`, one line per row in the same order,
`{"id": ..., "metadata": {"image": ..., "text": ..., "labels": [...]}}`; on request, `continuous.npy`, float16 (n, k),
and `vectors.npy`, int8 (n, d), the encoder's pooled vectors as `as_int8` writes them; `rejected.tsv`, what could not
be read and why; and `config.json`, which names model, bits and counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from math_hash.errors import InputError
from math_hash.files import map_array, read_json, require_sums
from math_hash.hamming.codes import pack, unpack
from math_hash.models.fingerprint import kept_fingerprint
from math_hash.plain_data import parse_json

FORMAT = 1
_BLOCK = 4096  # rows that are cut to fewer bits at once
_ROWS = 50_000  # of a block


@dataclass(frozen=True)
class CodesFolder:
    """A folder of codes that was opened.

    Attributes:
        path: the folder.
        config: what `config.json` says.
        codes: packed codes, uint8 (n, ceil(k / 8)), memory-mapped.
        continuous: continuous codes, float16 (n, k), memory-mapped; None if it was encoded without them.
        vectors: the encoder's pooled vectors, int8 (n, d), memory-mapped; None if it was encoded without them.
    """

    path: Path
    config: dict[str, Any]
    codes: np.ndarray
    continuous: np.ndarray | None
    vectors: np.ndarray | None

    @classmethod
    def open(cls, path: str | Path) -> "CodesFolder":
        """Open a folder and compare the SHA-256 sums of its files.

        Raises:
            InputError: it is missing or damaged.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise InputError(
                f"{path}: no codes are there; make them with `math-hash encode MODEL INPUT --output {path}`"
            )
        config = read_json(path / "config.json")
        try:
            if config["format"] != FORMAT:
                raise ValueError(f"format {config['format']}, expected {FORMAT}")
            require_sums(path, config["sha256"])
            arrays = {
                name: map_array(path / f"{name}.npy")
                for name in ("codes", "continuous", "vectors")
                if name == "codes" or (path / f"{name}.npy").exists()
            }
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: damaged or of another version ({error}); encode again") from error
        return cls(path, config, arrays["codes"], arrays.get("continuous"), arrays.get("vectors"))

    def require_model(self, fingerprint: str) -> None:
        """Raises InputError if the codes are of another model; how many of its bits are kept makes no difference."""
        model = self.config["model"].partition(":")[0]
        if model != fingerprint.partition(":")[0]:
            raise InputError(f"{self.path}: holds codes of another model ({model[:12]}, not {fingerprint[:12]})")

    def with_bits(self, bits: int) -> "CodesFolder":
        """These codes, cut to their most significant bits, as the model's `with_bits` would have made them.

        Raises:
            InputError: there are fewer bits.
        """
        k_bits = self.config["k_bits"]
        if not 1 <= bits <= k_bits:
            raise InputError(f"`bits` {bits}: {self.path} holds {k_bits} bits; choose from 1 to that")
        if bits == k_bits:
            return self
        order = self.config["bit_order"][:bits]
        blocks = [
            pack(unpack(self.codes[start : start + _BLOCK], k_bits)[:, order])
            for start in range(0, len(self.codes), _BLOCK)
        ]
        config = {
            **self.config,
            "k_bits": bits,
            "model": kept_fingerprint(self.config["model"], bits),
            "bit_order": list(range(bits)),
        }
        continuous = None if self.continuous is None else self.continuous[:, order]
        return CodesFolder(self.path, config, np.concatenate(blocks), continuous, self.vectors)

    def blocks(self, progress: bool = False) -> Iterator[tuple[list[str], np.ndarray, list[dict[str, Any]]]]:
        """Ids, packed codes and metadata, in order, in blocks, with a progress bar on request.

        Raises:
            InputError: see `rows`.
        """
        rows, start = self.rows(), 0
        with tqdm(total=self.config["count"], desc="indexing", unit="code", disable=not progress) as bar:
            while block := list(islice(rows, _ROWS)):
                ids, metadata = map(list, zip(*block, strict=True))
                yield ids, self.codes[start : start + len(ids)], metadata
                start += len(ids)
                bar.update(len(ids))

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and metadata, in the order of the codes.

        Raises:
            InputError: a line is of another form.
        """
        with open(self.path / "rows.jsonl", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = parse_json(line)
                    row_id, metadata = row["id"], dict(row["metadata"])
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(f"{file.name}, line {number}: not a row ({error}); encode again") from error
                if isinstance(metadata.get("label"), list):  # version 0.1 called it so
                    metadata.setdefault("labels", metadata.pop("label"))
                yield row_id, metadata
