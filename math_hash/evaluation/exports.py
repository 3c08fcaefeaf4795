"""Evaluating the releases' `.mat` exports: codes and labels of queries and database, with no model at hand."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from math_hash.errors import InputError
from math_hash.evaluation.chance_level import floor_warning, normalized_score, random_floor
from math_hash.evaluation.ranking_metrics import RankingMetrics, ranking_metrics
from math_hash.files import read_json
from math_hash.hamming.codes import pack
from math_hash.protocols import protocol_of

DIRECTIONS = {
    "image->text": ("image", "text"),
    "text->image": ("text", "image"),
    "image->image": ("image", "image"),
    "text->text": ("text", "text"),
}
_SHORT = {"image": "img", "text": "txt"}  # in the keys of an export
_KEYS = ("q_img", "q_txt", "r_img", "r_txt", "q_l", "r_l")
# what two results must have in common to be compared
_SAME = (
    "protocol", "split_seed", "queries", "database", "training_rows_in_database", "selected_on", "ties", "normalizer",
    "top_k", "label_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    """Packed codes by key (`q_img`, `q_txt`, `r_img`, `r_txt`), labels uint8, and what is known of their making."""

    path: Path
    k_bits: int
    codes: dict[str, np.ndarray]
    query_labels: np.ndarray
    database_labels: np.ndarray
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The file's name without its ending, such as MATH-flickr25k-16."""
        return self.path.stem


def read_export(path: str | Path, protocol: str | None = None) -> Export:
    """Read a `.mat` export of the MATH or MITH release, or of this package.

    What the file itself does not tell (protocol, split seed, how the epoch was selected) is taken from the
    `results.json` of the run that it lies in, or else from `protocol` and the sizes.

    Raises:
        InputError: the file is missing or damaged, lacks a key, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .mat export with {', '.join(_KEYS)}")
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # SciPy raises many kinds on damaged files
        raise InputError(f"{path}: not a readable .mat file ({error})") from error
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; expected {', '.join(_KEYS)}")
    codes, widths = {}, set()
    for key in _KEYS[:4]:
        value = np.asarray(content[key])
        if value.ndim != 2 or len(value) == 0 or not np.isin(value, (-1, 0, 1)).all():
            raise InputError(f"{path}: {key} must be a matrix of -1/+1 with at least one row, found {value.shape}")
        if len(value) != len(content["q_l" if key.startswith("q") else "r_l"]):
            raise InputError(f"{path}: {key} and its labels differ in length")
        codes[key] = pack(value > 0)
        widths.add(value.shape[1])
    if len(widths) > 1:
        raise InputError(f"{path}: codes of {sorted(widths)} bits; expected one length")
    labels = [np.asarray(content[key]) for key in ("q_l", "r_l")]
    for key, value in zip(("q_l", "r_l"), labels, strict=True):
        if value.ndim != 2 or not np.isin(value, (0, 1)).all():
            raise InputError(f"{path}: {key} must be a matrix of 0/1, found {value.shape} of {value.dtype}")
    query_labels, database_labels = (value.astype(np.uint8) for value in labels)
    return Export(path, widths.pop(), codes, query_labels, database_labels, _origin(path, protocol, *labels))


def _origin(path: Path, protocol: str | None, query_labels: np.ndarray, database_labels: np.ndarray) -> dict[str, Any]:
    beside = path.parent.parent / "results.json"
    known = read_json(beside) if path.parent.name == "PR_curve" and beside.is_file() else {}
    digest = hashlib.sha256()
    for labels in (query_labels, database_labels):
        digest.update(str(labels.shape).encode())
        digest.update(labels.astype(np.uint8).tobytes())
    sizes = (len(query_labels), len(database_labels), query_labels.shape[1])
    found = re.fullmatch(r"(.+)-(.+)-(\d+)", path.stem)
    return {
        "method": known.get("method", found[1] if found else path.stem),
        "protocol": protocol or known.get("protocol") or protocol_of(*sizes),
        "split_seed": known.get("split_seed"),
        "queries": sizes[0],
        "database": sizes[1],
        "training_rows": known.get("training_rows"),
        "training_rows_in_database": known.get("training_rows_in_database"),
        "selected_on": known.get("selected_on", "unknown"),
        "selected_epoch": known.get("selected_epoch"),
        "label_sha256": digest.hexdigest(),
    }


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one export in four directions, and the record that `results.json` holds."""

    export: Export
    metrics: dict[str, RankingMetrics]
    record: dict[str, Any]


def evaluate_export(
    export: Export, *, top_k: int = 50, ties: str = "index", normalizer: str = "lineage", **options: Any
) -> Evaluation:
    """Compute every metric in every direction.

    `options` are those of `ranking_metrics`.

    Raises:
        InputError: as `ranking_metrics`.
    """
    metrics = {
        direction: ranking_metrics(
            export.codes[f"q_{_SHORT[asked]}"],
            export.codes[f"r_{_SHORT[found]}"],
            export.query_labels,
            export.database_labels,
            k_bits=export.k_bits,
            top_k=top_k,
            ties=ties,
            normalizer=normalizer,
            **options,
        )
        for direction, (asked, found) in DIRECTIONS.items()
    }
    floor = random_floor(export.query_labels, export.database_labels)
    directions = {}
    for direction, found in metrics.items():
        means = found.mean()
        directions[direction] = {**means, "normalized_score": normalized_score(means["mAP"], floor)}
    record = {
        "file": str(export.path),
        "k_bits": export.k_bits,
        **export.origin,
        "ties": ties,
        "normalizer": normalizer,
        "top_k": top_k,
        "floor": floor,
        "warnings": [
            f"{direction}: {line}"
            for direction, means in directions.items()
            if (line := floor_warning(means["mAP"], floor))
        ],
        "directions": directions,
    }
    return Evaluation(export, metrics, record)


def require_comparable(records: list[dict[str, Any]]) -> None:
    """Refuse to set results of different protocols side by side.

    Raises:
        InputError: two records differ in protocol, split, selection, tie rule, normalizer or labels; the message names
            the fields.
    """
    first = records[0]
    for other in records[1:]:
        different = [
            f"{name} ({first[name]} and {other[name]})" if name != "label_sha256" else "labels"
            for name in _SAME
            if first[name] != other[name]
        ]
        if different:
            raise InputError(
                f"{first['file']} and {other['file']} cannot be compared: they differ in {', '.join(different)}; "
                "evaluate them apart, or use --allow-different"
            )
