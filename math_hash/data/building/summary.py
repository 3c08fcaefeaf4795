"""The summary of a dataset: counts of rows, labels and texts, for the manifest and for the terminal."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from math_hash.data.folder import DatasetFolder
from math_hash.data.rejected import REJECTED
from math_hash.protocols import PROTOCOLS


def summarize(labels: np.ndarray, label_names: Sequence[str], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Counts of rows, labels and texts, and the ten most and least frequent labels, as the manifest has them.

    Args:
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
        label_names: the c columns, in order.
        texts: n lists of texts.
    """
    per_label, per_row = labels.sum(axis=0, dtype=int), labels.sum(axis=1, dtype=int)
    ranked = [[label_names[column], int(per_label[column])] for column in np.argsort(-per_label, kind="stable")]
    words = [len(text.split()) for row in texts for text in row if text]
    return {
        "rows": len(labels),
        "labels": len(per_label),
        "labels_a_row": _range(per_row),
        "rows_without_label": int((per_row == 0).sum()),
        "texts": len(words),
        "rows_without_text": sum(not any(row) for row in texts),
        "words_a_text": _range(np.array(words, int)),
        "most_frequent_labels": ranked[:10],
        "least_frequent_labels": ranked[::-1][:10],
    }


def summary_text(folder: DatasetFolder) -> str:
    """The summary in a folder's manifest as a table with one line per entry."""
    manifest, summary = folder.manifest, folder.manifest["summary"]
    protocol = PROTOCOLS.get(folder.protocol)
    duplicates = manifest["duplicates"]
    lines = {
        "dataset": f"{folder.path} ({folder.protocol}), images in {os.path.normpath(folder.image_root)}",
        "rows": f"{summary['rows']}" + (f" (the protocol's {protocol.rows})" if protocol else ""),
        "labels": f"{summary['labels']}, {_spoken(summary['labels_a_row'])} per row",
        "texts": f"{summary['texts']}, {_spoken(summary['words_a_text'])} words per text",
        "most frequent": ", ".join(f"{name} {count}" for name, count in summary["most_frequent_labels"]),
        "least frequent": ", ".join(f"{name} {count}" for name, count in summary["least_frequent_labels"]),
        "left out": f"{manifest['rejected_rows']} rows, listed in {REJECTED}" if manifest.get("rejected_rows") else "",
        "no label": f"{summary['rows_without_label']} rows" if summary["rows_without_label"] else "",
        "no text": f"{summary['rows_without_text']} rows" if summary["rows_without_text"] else "",
        "duplicates": f"{len(duplicates)} pictures, such as {' = '.join(duplicates[0])}" if duplicates else "",
        "pictures": {
            "full": "all decoded",
            "fast": "all there, not decoded (--check fast)",
            "none": "not read; their embeddings are in features/",
        }[manifest["checked"]],
    }
    return "\n".join(f"{name:<16}{line}" for name, line in lines.items() if line)


def _range(values: np.ndarray) -> list[float]:
    """Mean, least and greatest."""
    return [round(float(values.mean()), 2), int(values.min()), int(values.max())] if len(values) else [0.0, 0, 0]


def _spoken(values: Sequence[float]) -> str:
    return f"{values[0]:g} ({values[1]} to {values[2]})"
