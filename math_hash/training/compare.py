"""What `math-hash compare` measures: an encoder's vectors, quantized or hashed, and the codes of trained methods.

One frozen encoder gives everybody the same input: that of the longest run, which is a fine-tuned CLIP, a frozen one, or
stored features. Everything that is fitted is fitted to the run's training rows.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from math_hash.config import Config
from math_hash.data import POOLED
from math_hash.errors import InputError
from math_hash.evaluation.compare import Entry, measure
from math_hash.evaluation.compare_report import write_comparison
from math_hash.files import read_json
from math_hash.methods import short_name
from math_hash.training.api import configured
from math_hash.training.compare_entries import (
    Source,
    finished_run,
    fitted_entries,
    learned_entries,
    trained_model,
    with_labels,
)
from math_hash.training.evaluate import encoder_vectors
from math_hash.training.feature_cache import with_cache
from math_hash.training.run_folder import RESULTS, Run
from math_hash.training.runtime import make_accelerator
from math_hash.training.setup import open_data
from math_hash.training.state import shows_progress

_PLACES = (
    "dataset_root",
    "image_root",
    "num_workers",
    "cache_dir",
    "device",
)  # options that may differ from those of a run
_SAME_DATA = ("dataset", "features", "query_num", "train_num", "split_seed", "select_on", "unseen_labels")


def compare(
    output: str | os.PathLike[str] = "comparison",
    k_bits: Sequence[int] = (16, 32, 64, 128, 256),
    *,
    runs: Sequence[str | os.PathLike[str]] = (),
    align: bool = False,
    unseen_labels: int = 4,
    **options: Any,
) -> dict[str, Any]:
    """Compare learned codes with quantizations of the encoder's vectors; `math-hash compare` calls this.

    Args:
        output: folder for compare.md, .csv, .json and .png, and for `runs/`: what is missing is trained there, and
            finished runs are used again.
        k_bits: lengths of the learned codes; the longest are trained, shorter ones are their most significant bits.
        runs: finished runs of one method, instead of training one; each length comes from the shortest that has it.
        align: quantize the vectors after canonical correlation analysis, for two encoders that share no space.
        unseen_labels: labels of which no row is trained on, measured in a second training; 0: none.
        options: of training, as for `math_hash.train`.

    Returns:
        What `compare.json` holds: sizes, the encoder, chance levels, notes, and `rows`, one per entry and form.

    Raises:
        InputError: something is wrong with the options, the data or the runs.
    """
    if (least := min(k_bits, default=0)) < 1:
        raise InputError(f"`k_bits` {least}: is below 1")
    given = {**options, "unseen_labels": unseen_labels}
    record = _record(given, sorted(set(k_bits)), Path(output) / "runs", [Path(run) for run in runs], align)
    write_comparison(record, Path(output))
    return record


def _record(
    given: Mapping[str, Any], bits: Sequence[int], folder: Path, runs: Sequence[Path], aligned: bool
) -> dict[str, Any]:
    """Train what is missing, and measure every entry; with unseen labels, all is done again without their rows."""
    unseen = given["unseen_labels"]
    if runs:
        given = _options_of(runs, given)
    elsewhere = folder / f"unseen_{unseen}"
    other = _open({**given, "unseen_labels": unseen}, bits, elsewhere, ()) if unseen else None
    source = _open({**given, "unseen_labels": 0}, bits, folder, runs)
    notes: list[str] = []
    rows: list[dict[str, Any]] = [
        {
            "name": entry.name, "bytes": entry.bytes_per_item, "form": form, "fitted": entry.fitted,
            "is_binary": entry.is_binary, "directions": directions, **_mean(directions),
        }
        for entry, results in _measured(source, folder, bits, aligned, notes)
        for form, directions in results.items()
    ]  # fmt: skip
    split, config = source.data.split, source.config
    record: dict[str, Any] = {
        "dataset": config.dataset, "protocol": source.data.folder.protocol, "method": short_name(config.method),
        "encoder": _encoder(config), "aligned": aligned, "queries": len(split.query),
        "database": len(split.database), "training_rows": len(split.train), "validation_rows": len(split.val),
        "chance": source.task.chance(), "notes": notes, "unseen": None, "rows": rows,
    }  # fmt: skip
    if other:
        found = {
            (entry.name, entry.bytes_per_item, form): _mean(directions)["mAP"]
            for entry, results in _measured(other, elsewhere, bits, aligned, [])
            for form, directions in results.items()
        }
        for row in rows:
            row["mAP_unseen"] = found.get((row["name"], row["bytes"], row["form"]))
        record["chance"]["mAP_unseen"] = other.task.chance()["mAP"]
        record["unseen"] = {
            "labels": other.data.unseen_names, "queries": len(other.task.query), "database": len(other.task.database),
            "training_rows": len(other.data.split.train),
        }  # fmt: skip
    return record


def _open(given: Mapping[str, Any], bits: Sequence[int], folder: Path, runs: Sequence[Path]) -> Source:
    most = max(bits)
    config = configured({**given, "is_train": True, "k_bits": most})
    if not config.batch_size:
        raise InputError("`batch_size` auto: runs that are compared need one batch size; give a number")
    if not runs:
        runs = [finished_run(replace(config, save_dir=str(folder / f"{short_name(config.method)}_{most}"))).path]
    models = sorted((trained_model(path) for path in runs), key=lambda model: model.k_bits)
    if models[-1].k_bits < most:
        raise InputError(
            f"`k_bits` {most}: the longest run has {models[-1].k_bits} bits; leave the lengths above it out"
        )
    accelerator = make_accelerator(config)
    data = open_data(config, progress=shows_progress(accelerator))
    if data.pairs_only:
        raise InputError(f"{data.folder.path}: has no labels, by which codes are compared")
    largest = models[-1].to(accelerator.device)
    data = with_cache(replace(config, freeze_encoder=True), largest, data, accelerator)
    rows = np.union1d(data.split.query, data.split.database)
    vectors = encoder_vectors(
        largest.encoder, data.pairs_for(largest.encoder, largest.max_words, POOLED), rows, accelerator,
        batch_size=config.batch_size, num_workers=config.num_workers, progress=shows_progress(accelerator),
    )  # fmt: skip
    return Source(config, accelerator, data, rows, models, vectors)


def _options_of(runs: Sequence[Path], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the longest of some runs, and over them those given that say where things are."""
    for path in runs:
        if not (path / RESULTS).is_file():
            raise InputError(f"`runs` {path}: holds no finished run; expected a run folder with {RESULTS}")
    saved = {path: Run(path).read_config() for path in runs}
    longest = max(saved, key=lambda path: saved[path]["k_bits"])
    first = saved[longest]
    for path, options in saved.items():
        if wrong := [name for name in ("method", *_SAME_DATA) if options.get(name) != first.get(name)]:
            raise InputError(f"`runs` {path}: differs from {longest} in `{wrong[0]}`; give runs on the same data")
    if len(runs) > 1 and not (first["features"] or first["freeze_encoder"]):
        raise InputError(
            f"`runs`: {len(runs)} runs, each with an encoder that it trained; give one, of which shorter codes are "
            "taken, or runs with `features` or `freeze_encoder`"
        )
    for name, value in given.items():
        if name not in (*_PLACES, "unseen_labels") and value != first.get(name):
            raise InputError(f"`runs` {longest}: was trained with `{name}` {first.get(name)}; leave it out")
    return {**first, **given, "save_dir": "", "resume": ""}


def _measured(
    source: Source, folder: Path, bits: Sequence[int], aligned: bool, notes: list[str]
) -> Iterator[tuple[Entry, dict[str, dict[str, dict[str, float]]]]]:
    """Every entry with what `measure` gives for it, and in `notes` what was left out."""
    task = source.task
    entries = chain(fitted_entries(source, aligned, notes), learned_entries(source, folder, bits))
    for entry in tqdm(entries, "measuring", unit="entry", disable=not shows_progress(source.accelerator)):
        yield entry, measure(entry, task)


def _mean(directions: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of both cross-modal directions, for each measure."""
    first, second = directions.values()
    return {name: (value + second[name]) / 2 for name, value in first.items()}


def _encoder(config: Config) -> str:
    """What the vectors come from, for the reader of the table."""
    if config.features:
        described = Path(config.features) / "features.json"
        known = read_json(described) if described.is_file() else {}
        names = " and ".join(str(known[name]) for name in ("image", "text") if name in known)
        return f"stored features{' of ' + names if names else ''}, not trained further"
    named = config.encoder or Path(config.clip_path).name
    if config.freeze_encoder:
        return f"{named}, frozen"
    return f"{named}, trained by {short_name(config.method)}{with_labels(config)}; the float vectors are of it too"
