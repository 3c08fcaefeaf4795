"""From the rows that a reader gathered to a dataset's folder: check, leave out, write, summarize."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from math_hash.data.building.check import duplicate_pictures, inspect_source, protocol_deviation
from math_hash.data.building.source import Source
from math_hash.data.building.summary import summarize, summary_text
from math_hash.data.folder import DatasetFolder, require_free, write_dataset
from math_hash.data.images import Inspection
from math_hash.data.rejected import REJECTED, write_rejected
from math_hash.data.split import own_split
from math_hash.errors import InputError
from math_hash.protocols import OWN


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
    details: Mapping[str, object] | None = None,
) -> DatasetFolder:
    """Write a dataset's folder and print its summary.

    Pictures that cannot be decoded are left out and listed in `rejected.tsv`. Under a protocol that is a deviation.

    Args:
        source: the rows.
        output: the folder to write.
        protocol: a name of `PROTOCOLS`, whose numbers are checked, or "own".
        check: "full" decodes every picture, "fast" only checks that its file is there.
        allow_partial: accept deviations from the protocol, with a note.
        allow_unlabelled: accept rows without a label.
        caption: which of a row's texts goes into `caption.mat`, "first" or "random", drawn by `seed`.
        seed: of `caption="random"`.
        details: further entries of the manifest.

    Raises:
        InputError: the protocol's numbers are not met, nothing is left, or the folder cannot be written.
    """
    require_free(output)
    inspection = inspect_source(source, check)
    rejected = source.rejected + [(source.images[row], reason) for row, reason in inspection.bad.items()]
    usable, deviation = _usable_rows(source, inspection, rejected, output, protocol, allow_partial)
    several = any(len(texts) > 1 for texts in usable.texts)
    folder = write_dataset(
        output,
        images=usable.images,
        captions=_choose_captions(usable.texts, caption, seed),
        labels=usable.labels,
        label_names=usable.label_names,
        protocol=f"{protocol} (partial)" if deviation else protocol,
        image_root="" if usable.carried else usable.image_root,
        members=usable.members,
        texts=usable.texts if several else None,
        allow_unlabelled=allow_unlabelled,
        add_files=partial(_add_files, source=usable, rejected=rejected),
        details={
            "rejected_rows": len(rejected),
            "duplicates": duplicate_pictures(source.images, inspection),
            "checked": check,
            "summary": summarize(usable.labels, usable.label_names, usable.texts),
            **(details or {}),
            **({"split": own_split(len(usable.images))} if protocol == OWN else {}),
            **({"caption": caption, "caption_seed": seed} if several else {}),
        },
    )
    print(summary_text(folder))
    return folder


def _add_files(folder: Path, source: Source, rejected: list[tuple[str, str]]) -> None:
    """Write `rejected.tsv`, and move pictures that come with the source, into the new folder."""
    write_rejected(folder / REJECTED, rejected)
    if source.carried:
        for path in sorted(source.image_root.iterdir()):
            os.rename(path, folder / path.name)


def _usable_rows(
    source: Source,
    inspection: Inspection,
    rejected: list[tuple[str, str]],
    output: Path,
    protocol: str,
    allow_partial: bool,
) -> tuple[Source, str]:
    """The rows whose pictures are usable, and what deviates from the protocol; a refusal lists what is rejected."""
    keep = np.setdiff1d(np.arange(len(source.images)), np.fromiter(inspection.bad, int))
    deviation = protocol_deviation(protocol, len(keep), len(source.label_names), inspection)
    if not len(keep) or (deviation and not allow_partial):
        listing = output.with_name(f"{output.name}.{REJECTED}")
        advice = "complete the download, or use --allow-partial" if deviation else "no picture is usable"
        if rejected:
            write_rejected(listing, rejected)
            advice += f"; all {len(rejected)} are listed in {listing}"
        raise InputError(f"{deviation or f'{output}: of {len(source.images)} rows none is left'}; {advice}")
    if deviation:
        print(f"note: {deviation}")
    return source.rows(keep), deviation


def _choose_captions(texts: list[list[str]], caption: str, seed: int) -> list[str]:
    """One of each row's texts, the first or a random one; "" for a row without any."""
    rng = np.random.default_rng(seed)
    chosen = [rng.integers(len(row)) if row and caption == "random" else 0 for row in texts]
    return [row[place] if row else "" for row, place in zip(texts, chosen, strict=True)]
