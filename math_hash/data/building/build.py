"""From what a tool has read to a dataset's folder: look at the pictures, write, read again, summarise."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from math_hash.data.folder import DatasetFolder, read_dataset, write_dataset, write_manifest
from math_hash.data.images import Inspection, TarMember, inspect_images
from math_hash.errors import InputError
from math_hash.files import require_sums, sums_of, write_text
from math_hash.protocols import OWN, PROTOCOLS

REJECTED = "rejected.tsv"


@dataclass
class Source:
    """n rows as a tool has read them, before anybody looked at the pictures.

    Attributes:
        image_root: what `images`, n paths, are relative to.
        texts: n lists of texts; a row may have none, or several.
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
        rejected: what was left out while reading: (which, why).
        members: places of pictures in tar files, as `DatasetFolder` has them.
        carried: everything in `image_root` is to be moved into the dataset's folder.
    """

    image_root: Path
    images: list[str]
    texts: list[list[str]]
    labels: np.ndarray
    label_names: list[str]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    members: np.ndarray | None = None
    carried: bool = False

    def rows(self, keep: np.ndarray) -> "Source":
        """The rows with these numbers."""
        return replace(
            self,
            images=[self.images[row] for row in keep],
            texts=[self.texts[row] for row in keep],
            labels=self.labels[keep],
            members=None if self.members is None else self.members[keep],
        )


def label_matrix(rows: list[list[str]], names: list[str], where: Callable[[int], str]) -> np.ndarray:
    """Multi-hot rows, uint8 (n, c), from n lists of label names.

    Raises:
        InputError: a name is not among `names`; the message says where the row with this number, from 0, came from.
    """
    column = {name: place for place, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), np.uint8)
    for row, named in enumerate(rows):
        for name in named:
            if name not in column:
                raise InputError(f"{where(row)}: unknown label {name!r}; known are {_some(names)}")
            labels[row, column[name]] = 1
    return labels


def tool_parser(description: str, output: str, raw: str = "") -> argparse.ArgumentParser:
    """The command line of a tool: `--output` and `--check`, and for a published dataset where it comes from.

    Args:
        output: default of `--output`.
        raw: what the folder named by `--raw` holds; with it come `--lists`, `--images` and `--allow-partial`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if raw:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--raw", type=Path, help=f"folder with {raw}")
        source.add_argument("--lists", type=Path, help="folder with the MATH release's four text files")
        parser.add_argument("--images", type=Path, help="folder of the pictures (default: looked for in the source)")
        parser.add_argument(
            "--allow-partial", action="store_true", help="go on with fewer rows or labels than the protocol has"
        )
    parser.add_argument("--output", type=Path, default=Path(output), help=f"folder to write ({output})")
    parser.add_argument(
        "--check", choices=("full", "fast"), default="full", help="decode each picture, or only see that it is there"
    )
    return parser


def build_dataset(
    source: Source,
    output: Path,
    *,
    protocol: str,
    check: str = "full",
    allow_partial: bool = False,
    allow_unlabelled: bool = False,
    caption: str = "first",
    seed: int = 1,
    **details: Any,
) -> DatasetFolder:
    """Write a dataset's folder and print its summary.

    Pictures that cannot be shown are left out and listed in `rejected.tsv`. Under a protocol that is a deviation.

    Args:
        protocol: a name of `PROTOCOLS`, whose numbers are checked, or "own".
        check: "full" decodes every picture, "fast" only sees that it is there.
        allow_partial: accept deviations from the protocol, with a note.
        allow_unlabelled: accept rows without a label.
        caption: which of a row's texts goes into `caption.mat`, "first" or "random", drawn by `seed`.
        details: further entries of the manifest.

    Raises:
        InputError: the protocol's numbers are not met, nothing is left, or the folder cannot be written.
    """
    found = _inspect(source, check)
    rejected = source.rejected + [(source.images[row], reason) for row, reason in found.bad.items()]
    keep = np.setdiff1d(np.arange(len(source.images)), np.fromiter(found.bad, int))
    problem = _deviation(protocol, len(keep), len(source.label_names), found)
    if not len(keep) or (problem and not allow_partial):
        listing = output.with_name(f"{output.name}.{REJECTED}")
        advice = "complete the download, or use --allow-partial" if problem else "no picture is usable"
        if rejected:
            _write_rejected(listing, rejected)
            advice += f"; all {len(rejected)} are listed in {listing}"
        raise InputError(f"{problem or f'{output}: of {len(source.images)} rows none is left'}; {advice}")
    if problem:
        print(f"note: {problem}")
    names, source = source.images, source.rows(keep)
    rng = np.random.default_rng(seed)
    chosen = [rng.integers(len(texts)) if texts and caption == "random" else 0 for texts in source.texts]
    if protocol == OWN:
        details = {**details, "split": own_split(len(keep))}
    several = any(len(texts) > 1 for texts in source.texts)
    if several:
        details = {**details, "caption": caption, "caption_seed": seed}

    def add_files(building: Path) -> None:
        _write_rejected(building / REJECTED, rejected)
        if source.carried:
            for path in sorted(source.image_root.iterdir()):
                os.rename(path, building / path.name)

    folder = write_dataset(
        output,
        images=source.images,
        captions=[texts[place] if texts else "" for texts, place in zip(source.texts, chosen, strict=True)],
        labels=source.labels,
        label_names=source.label_names,
        protocol=f"{protocol} (partial)" if problem else protocol,
        image_root="" if source.carried else source.image_root,
        members=source.members,
        texts=source.texts if several else None,
        allow_unlabelled=allow_unlabelled,
        add_files=add_files,
        rejected_rows=len(rejected),
        duplicates=_duplicates(names, found),
        checked=check,
        summary=summarize(source.labels, source.label_names, source.texts),
        **details,
    )
    print(summary_text(folder))
    return folder


def check_dataset(path: str | Path, image_root: str = "", check: str = "full", allow_unlabelled: bool = False) -> str:
    """Check a dataset's folder made elsewhere, write its summary into its manifest, and return it as text.

    A folder without a manifest gets one; in one that has, the files must have the sums that it records.

    Raises:
        InputError: the files are damaged, contradict the manifest or each other, or pictures are unusable; these are
            listed in `rejected.tsv`.
    """
    folder = read_dataset(path, image_root=image_root, allow_unlabelled=allow_unlabelled)
    manifest = folder.manifest
    require_sums(folder.path, manifest.get("sha256", {}))
    sources = [folder.image_path(row) for row in range(len(folder))]
    found = inspect_images(sources, decode=check == "full", progress=os.isatty(2))
    if found.bad:
        _write_rejected(folder.path / REJECTED, [(folder.images[row], reason) for row, reason in found.bad.items()])
        raise InputError(
            f"{folder.path}: {len(found.bad)} of {len(folder)} pictures are unusable ({_some(found.bad.values())}); "
            f"all are listed in {folder.path / REJECTED}; name their folder with --image-root, or build it again"
        )
    names = ("index.mat", "caption.mat", "label.mat", "label_t.mat")
    folder.manifest = {
        "protocol": OWN,
        "rows": len(folder),
        "unlabelled_rows": int((folder.labels.sum(axis=1) == 0).sum()),
        "label_names": folder.label_names,
        "image_root": "",
        "sha256": sums_of(folder.path, names),
        "split": own_split(len(folder)),
        **manifest,
        **({"image_root": os.path.relpath(image_root, folder.path)} if image_root else {}),
        "duplicates": _duplicates(folder.images, found),
        "checked": check,
        "summary": summarize(folder.labels, folder.label_names, folder.texts),
    }
    write_manifest(folder.path, folder.manifest)
    return summary_text(folder)


def summarize(labels: np.ndarray, label_names: list[str], texts: list[list[str]]) -> dict[str, Any]:
    """Counts of rows, labels and texts, and the ten most and least frequent labels.

    Args:
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
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
    """The manifest's summary as a table of one line an entry."""
    manifest, found = folder.manifest, folder.manifest["summary"]
    protocol = PROTOCOLS.get(folder.protocol)
    duplicates = manifest["duplicates"]
    lines = {
        "dataset": f"{folder.path} ({folder.protocol}), images in {os.path.normpath(folder.image_root)}",
        "rows": f"{found['rows']}" + (f" (the protocol's {protocol.rows})" if protocol else ""),
        "labels": f"{found['labels']}, {_spoken(found['labels_a_row'])} a row",
        "texts": f"{found['texts']}, {_spoken(found['words_a_text'])} words a text",
        "most frequent": ", ".join(f"{name} {count}" for name, count in found["most_frequent_labels"]),
        "least frequent": ", ".join(f"{name} {count}" for name, count in found["least_frequent_labels"]),
        "left out": f"{manifest['rejected_rows']} rows, listed in {REJECTED}" if manifest.get("rejected_rows") else "",
        "no label": f"{found['rows_without_label']} rows" if found["rows_without_label"] else "",
        "no text": f"{found['rows_without_text']} rows" if found["rows_without_text"] else "",
        "duplicates": f"{len(duplicates)} pictures, such as {' = '.join(duplicates[0])}" if duplicates else "",
        "pictures": {"full": "all decoded", "fast": "all there, not decoded (--check fast)"}[manifest["checked"]],
    }
    return "\n".join(f"{name:<16}{line}" for name, line in lines.items() if line)


def own_split(rows: int) -> dict[str, int]:
    """Numbers of queries, training and validation rows for a collection that no protocol describes."""
    queries = min(2000, -(-rows // 10))
    train = min(10000, rows - queries)
    return {"query_num": queries, "train_num": train, "val_num": min(500, train // 10)}


def _inspect(source: Source, check: str) -> Inspection:
    places = [source.image_root / name for name in source.images]
    if source.members is not None:
        for row, (offset, size) in enumerate(source.members.tolist()):
            if offset >= 0:
                member = TarMember.of(source.images[row], offset, size)
                places[row] = member._replace(tar=source.image_root / member.tar)
    return inspect_images(places, decode=check == "full", progress=os.isatty(2))


def _deviation(protocol: str, rows: int, labels: int, found: Inspection) -> str:
    """What is not as the protocol says, or ""."""
    expected = PROTOCOLS.get(protocol)
    if expected is None or ((rows, labels) == (expected.rows, expected.labels) and not found.bad):
        return ""
    message = f"{protocol}: expected {expected.rows} rows and {expected.labels} labels, found {rows} and {labels}"
    if found.bad:
        message += f", with {len(found.bad)} pictures missing or unreadable: {_some(found.bad.values())}"
    return message


def _duplicates(names: list[str], found: Inspection) -> list[list[str]]:
    """Pairs of pictures that are one: listed twice, or files of equal content."""
    first: dict[str, int] = {}
    pairs = dict(found.duplicates)
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            pairs[row] = first[name]
    return [[names[row], names[earlier]] for row, earlier in sorted(pairs.items())]


def _write_rejected(path: Path, rejected: list[tuple[str, str]]) -> None:
    lines = ["\t".join(" ".join(value.split()) for value in entry) + "\n" for entry in rejected]
    write_text(path, "".join(["which\treason\n", *lines]))


def _range(values: np.ndarray) -> list[float]:
    """Mean, least and greatest."""
    return [round(float(values.mean()), 2), int(values.min()), int(values.max())] if len(values) else [0.0, 0, 0]


def _spoken(values: list[float]) -> str:
    return f"{values[0]:g} ({values[1]} to {values[2]})"


def _some(values: Any, most: int = 3) -> str:
    values = list(values)
    return "; ".join(values[:most]) + (f"; and {len(values) - most} more" if len(values) > most else "")
