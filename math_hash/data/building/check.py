"""Checks of a dataset: its pictures, its protocol's numbers, and folders made elsewhere."""

import os
from collections.abc import Sequence
from pathlib import Path

from math_hash.data.building.source import Source
from math_hash.data.building.summary import summarize, summary_text
from math_hash.data.folder import read_dataset, write_manifest
from math_hash.data.images import Inspection, StoredImage, TarMember, inspect_images
from math_hash.data.rejected import REJECTED, first_few, write_rejected
from math_hash.data.split import own_split
from math_hash.errors import InputError
from math_hash.files import require_sums, sums_of
from math_hash.protocols import OWN, PROTOCOLS


def check_dataset(
    path: str | Path, image_root: str | Path = "", check: str = "full", allow_unlabelled: bool = False
) -> str:
    """Check a dataset's folder made elsewhere, write its summary into its manifest, and return it as text.

    A folder without a manifest gets one; in one that has, the files must have the sums that it records.

    Args:
        path: the dataset's folder.
        image_root: where the pictures lie; "" for the place that the manifest records.
        check: "full" decodes every picture, "fast" only checks that its file is there.
        allow_unlabelled: accept rows without a label.

    Raises:
        InputError: the files are damaged, contradict the manifest or each other, or pictures are unusable; these are
            listed in `rejected.tsv`.
    """
    folder = read_dataset(path, image_root=image_root, allow_unlabelled=allow_unlabelled)
    manifest = folder.manifest
    require_sums(folder.path, manifest.get("sha256", {}))
    pictures = [folder.image_path(row) for row in range(len(folder))]
    inspection = inspect_images(pictures, decode=check == "full", progress=os.isatty(2))
    if inspection.bad:
        write_rejected(folder.path / REJECTED, [(folder.images[row], why) for row, why in inspection.bad.items()])
        raise InputError(
            f"{folder.path}: {len(inspection.bad)} of {len(folder)} pictures are unusable "
            f"({first_few(inspection.bad.values())}); all are listed in {folder.path / REJECTED}; "
            "name their folder with `image_root`, or build it again"
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
        "duplicates": duplicate_pictures(folder.images, inspection),
        "checked": check,
        "summary": summarize(folder.labels, folder.label_names, folder.texts),
    }
    write_manifest(folder.path, folder.manifest)
    return summary_text(folder)


def inspect_source(source: Source, check: str) -> Inspection:
    """Check the pictures of all rows; "full" decodes them, "fast" only checks that they are there."""
    pictures: list[StoredImage] = [source.image_root / name for name in source.images]
    if source.members is not None:
        for row, (offset, size) in enumerate(source.members.tolist()):
            if offset >= 0:
                member = TarMember.of(source.images[row], offset, size)
                pictures[row] = member._replace(tar=source.image_root / member.tar)
    return inspect_images(pictures, decode=check == "full", progress=os.isatty(2))


def protocol_deviation(protocol: str, rows: int, labels: int, inspection: Inspection) -> str:
    """What deviates from the numbers of a protocol, or "" where nothing does or there is no such protocol."""
    expected = PROTOCOLS.get(protocol)
    if expected is None or ((rows, labels) == (expected.rows, expected.labels) and not inspection.bad):
        return ""
    message = f"{protocol}: expected {expected.rows} rows and {expected.labels} labels, found {rows} and {labels}"
    if inspection.bad:
        reasons = first_few(inspection.bad.values())
        message += f", with {len(inspection.bad)} pictures missing or unreadable: {reasons}"
    return message


def duplicate_pictures(names: Sequence[str], inspection: Inspection) -> list[list[str]]:
    """Pairs of names that stand for one picture: listed twice, or files of equal content."""
    first: dict[str, int] = {}
    pairs = dict(inspection.duplicates)
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            pairs[row] = first[name]
    return [[names[row], names[earlier]] for row, earlier in sorted(pairs.items())]
