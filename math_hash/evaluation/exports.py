"""The releases' `.mat` exports, written, read and evaluated: codes and labels of queries and database, without a model.

An export holds float -1/+1 under `q_img q_txt r_img r_txt` and labels under `q_l r_l`, one row per instance.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.errors import InputError
from math_hash.evaluation.chance_level import chance_level, chance_level_warning, normalized_score
from math_hash.evaluation.inputs import Relevance, number_of_bits
from math_hash.evaluation.own_pair_recall import own_pair_recalls
from math_hash.evaluation.ranking_metrics import RankingMetrics, ranking_metrics
from math_hash.evaluation.rules import CUTS
from math_hash.files import read_json
from math_hash.hamming.codes import as_signs, pack, unpack
from math_hash.mat import read_arrays, write_mat
from math_hash.protocols import protocol_of

DIRECTIONS = {
    "image->text": ("image", "text"),
    "text->image": ("text", "image"),
    "image->image": ("image", "image"),
    "text->text": ("text", "text"),
}
CROSS_MODAL = ("image->text", "text->image")
_SHORT = {"image": "img", "text": "txt"}  # in the keys of an export
_CODES, _LABELS = ("q_img", "q_txt", "r_img", "r_txt"), ("q_l", "r_l")
_KEYS = _CODES + _LABELS
# what two results must have in common to be compared
_SAME = (
    "protocol", "unseen_labels", "split_seed", "queries", "database", "training_rows_in_database", "selected_on",
    "ties", "normalizer", "top_k", "no_relevant", "min_shared", "label_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    """Packed codes by key (`q_img`, `q_txt`, `r_img`, `r_txt`), labels uint8, and what is known of their origin."""

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


def write_export(
    path: str | Path,
    codes: Mapping[str, np.ndarray],
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    k_bits: int,
) -> None:
    """Write the releases' export, as `read_export` reads it.

    Args:
        path: of the file, by custom named after method, dataset and bits: PR_curve/MATH-flickr25k-16.mat.
        codes: packed, uint8 (n, ceil(k_bits / 8)), under `q_img`, `q_txt`, `r_img` and `r_txt`.
        query_labels, database_labels: 0/1 (n, c); their type is kept.

    Raises:
        InputError: codes are missing or have another length, or the file could not be written.
    """
    missing = [key for key in _CODES if key not in codes]
    if missing:
        raise InputError(f"codes: lack {', '.join(missing)}; expected {', '.join(_CODES)}")
    signs = {key: as_signs(unpack(codes[key], k_bits)) for key in _CODES}
    write_mat(path, {**signs, "q_l": query_labels, "r_l": database_labels})


def read_export(path: str | Path, protocol: str | None = None) -> Export:
    """Read a `.mat` export of the MATH or MITH release, or of this package.

    What the file itself does not say (protocol, split seed, how the epoch was selected) is taken from the
    `results.json` of the run that it lies in, or else from `protocol` and the sizes.

    Raises:
        InputError: the file is missing or damaged, lacks a key, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .mat export with {', '.join(_KEYS)}")
    content = read_arrays(path, _KEYS)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; expected {', '.join(_KEYS)}")
    codes = {key: _checked_codes(path, key, content) for key in _CODES}
    widths = {content[key].shape[1] for key in _CODES}
    if len(widths) > 1:
        raise InputError(f"{path}: codes of {sorted(widths)} bits; expected one length")
    query_labels, database_labels = (_checked_labels(path, key, content[key]) for key in _LABELS)
    origin = _origin(path, protocol, query_labels, database_labels)
    return Export(path, widths.pop(), codes, query_labels, database_labels, origin)


def _checked_codes(path: Path, key: str, content: Mapping[str, np.ndarray]) -> np.ndarray:
    """The codes under a key, packed."""
    codes, labels = content[key], content["q_l" if key.startswith("q") else "r_l"]
    if codes.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} must be a matrix of -1/+1, found {codes.shape} of {codes.dtype}")
    number_of_bits(codes, False, None, f"{path}: {key}")
    if codes.shape[:1] != labels.shape[:1]:
        raise InputError(f"{path}: {key} and its labels differ in length")
    return pack(codes > 0)


def _checked_labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    """The labels under a key, uint8."""
    if labels.ndim != 2 or labels.dtype.kind not in "buif" or not np.isin(labels, (0, 1)).all():
        raise InputError(f"{path}: {key} must be a matrix of 0/1, found {labels.shape} of {labels.dtype}")
    return labels.astype(np.uint8)


def _origin(path: Path, protocol: str | None, query_labels: np.ndarray, database_labels: np.ndarray) -> dict[str, Any]:
    """How the codes were made, as far as the run's `results.json`, the file's name and the sizes tell."""
    beside = path.parent.parent / "results.json"
    known = read_json(beside) if path.parent.name == "PR_curve" and beside.is_file() else {}
    digest = hashlib.sha256()
    for labels in (query_labels, database_labels):
        digest.update(str(labels.shape).encode())
        digest.update(labels.tobytes())
    sizes = (len(query_labels), len(database_labels), query_labels.shape[1])
    named = re.fullmatch(r"(.+)-(.+)-(\d+)", path.stem)  # method, dataset, bits
    return {
        "method": known.get("method", named[1] if named else path.stem),
        "protocol": protocol or known.get("protocol") or protocol_of(*sizes),
        "unseen_labels": known.get("unseen_labels", []),
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
    export: Export,
    *,
    top_k: int = 50,
    at: Sequence[int] | np.ndarray = CUTS,
    ties: str = "index",
    normalizer: str = "lineage",
    no_relevant: str = "zero",
    min_shared: int = 1,
    relevance: Relevance | None = None,
) -> Evaluation:
    """Compute every metric in every direction; the options are those of `ranking_metrics`.

    Own-pair recall is that of the queries' images and texts among themselves, which need to be pairs, row by row.

    Raises:
        InputError: as `ranking_metrics`.
    """
    counted: dict[str, Any] = {"no_relevant": no_relevant, "min_shared": min_shared}
    rules: dict[str, Any] = {"top_k": top_k, "normalizer": normalizer, **counted}
    labels = export.query_labels, export.database_labels
    metrics = {
        direction: ranking_metrics(
            export.codes[f"q_{_SHORT[query]}"],
            export.codes[f"r_{_SHORT[database]}"],
            *labels,
            k_bits=export.k_bits,
            at=at,
            ties=ties,
            relevance=relevance,
            **rules,
        )
        for direction, (query, database) in DIRECTIONS.items()
    }
    chance = chance_level(*labels, relevance=relevance, **counted)
    without = metrics["image->text"].without_relevant
    best = 1 - without / len(export.query_labels) if no_relevant == "zero" else 1.0
    directions = {}
    for direction, values in metrics.items():
        means = values.mean()
        directions[direction] = {**means, "normalized_score": normalized_score(means["mAP"], chance, best)}
    record = {
        "file": str(export.path),
        "k_bits": export.k_bits,
        **export.origin,
        "ties": ties,
        **rules,
        "floor": chance,
        f"floor@{top_k}": chance_level(*labels, relevance=relevance, **rules),
        "warnings": [
            f"{direction}: {line}"
            for direction, means in directions.items()
            if (line := chance_level_warning(means["mAP"], chance))
        ],
        "directions": directions,
        "own_pair_recall": own_pair_recalls(
            export.codes["q_img"], export.codes["q_txt"], k_bits=export.k_bits, ties=ties
        ),
    }
    return Evaluation(export, metrics, record)


def require_comparable(records: list[dict[str, Any]]) -> None:
    """Refuse to put results of different protocols side by side.

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
                "evaluate them apart, or use `allow_different`"
            )
