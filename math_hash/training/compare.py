"""What `math-hash compare` measures: an encoder's vectors, quantized or hashed, and the codes of trained methods.

One frozen encoder gives everybody the same input: that of the longest run, which is a fine-tuned CLIP, a frozen one, or
stored features. Everything that is fitted is fitted to the run's training rows.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from math_hash.config import Config, flag_of, make_config
from math_hash.data import POOLED
from math_hash.encoders import Features
from math_hash.errors import InputError
from math_hash.evaluation.compare import Entry, Task, bits_entry, measure
from math_hash.evaluation.quantizers import Vectors, centered, faiss_entries, float_entry, vector_entries
from math_hash.files import read_json
from math_hash.methods import find_method, short_name
from math_hash.methods.training_free import CCAITQ
from math_hash.models.model import HashModel
from math_hash.training.api import configured, train
from math_hash.training.evaluate import continuous_codes, encoder_vectors
from math_hash.training.feature_cache import with_cache
from math_hash.training.run_folder import CONFIG, RESULTS, Run
from math_hash.training.runtime import make_accelerator
from math_hash.training.setup import Data, open_data
from math_hash.training.state import shows_progress

FLOOR = "ClassifierBits"
FITTED, FITTED_BITS = ("PCA", "ITQ", "CCA-ITQ"), 64
# options that say which rows are used and where they are; those of the method's training are not for the floor
_DATA_OPTIONS = (
    "dataset", "dataset_root", "index_file", "caption_file", "label_file", "label_t_file", "query_num", "train_num",
    "val_num", "split_seed", "unseen_labels", "seed", "precision", "num_workers",
)  # fmt: skip
_PLACES = ("dataset_root", "image_root", "num_workers", "cache_dir")  # options that may differ from those of a run
_SAME_DATA = ("dataset", "features", "query_num", "train_num", "split_seed", "select_on", "unseen_labels")


@dataclass(frozen=True)
class Source:
    """What the entries of one comparison are made from.

    config: of the longest run. data: with the encoder's features. rows: numbers of the queries and the database, by
    which all arrays of the entries are indexed. models: trained ones, the shortest first. vectors: of the encoder.
    """

    config: Config
    accelerator: Accelerator
    data: Data
    rows: np.ndarray
    models: list[HashModel]
    vectors: Vectors

    @property
    def train(self) -> np.ndarray:
        """Places of the training rows among `rows`."""
        return np.searchsorted(self.rows, self.data.split.train)

    @property
    def task(self) -> Task:
        """The queries and the database of the split; with unseen labels, only what they concern."""
        split = self.data.split
        trained = np.concatenate([split.train, split.val])
        places = (np.searchsorted(self.rows, part) for part in (split.query, split.database, trained))
        task = Task(self.data.folder.labels[self.rows], *places)
        return task.on_labels(self.data.unseen) if self.data.unseen else task

    def codes(self, model: HashModel) -> Vectors:
        """Continuous codes of a model, the most significant bit first."""
        config, data = self.config, self.data
        pairs = (data if model.encoder.takes_pictures else replace(data, is_cached=False)).pairs(model)
        codes = continuous_codes(
            model, pairs, self.rows, self.accelerator, batch_size=config.batch_size, num_workers=config.num_workers,
            progress=shows_progress(self.accelerator),
        )  # fmt: skip
        return {modality: values[:, model.kept_bit_order] for modality, values in codes.items()}


def compare(
    given: Mapping[str, Any], bits: Sequence[int], folder: Path, runs: Sequence[Path] = (), aligned: bool = False
) -> dict[str, Any]:
    """Train what is missing, and measure every entry; with `unseen_labels`, all is done again without their rows.

    Args:
        given: options of training, as for `make_config`.
        bits: lengths of the learned codes.
        folder: for the runs that are trained; finished ones are used again.
        runs: finished runs of one method, instead of training one; each length comes from the shortest that has it.
        aligned: quantize the vectors after canonical correlation analysis, for two encoders that share no space.

    Returns:
        What `compare.json` holds: sizes, the encoder, chance levels, notes, and `rows`, one per entry and form.

    Raises:
        InputError: something is wrong with the options, the data or the runs.
    """
    unseen = given.get("unseen_labels", 0)
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
        "dataset": config.dataset, "protocol": source.data.folder.protocol, "method": config.method,
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


def finished_run(config: Config) -> Run:
    """The run of `config.save_dir`: as it is if it is finished, else continued or trained.

    Raises:
        InputError: it was started with other options, or training fails.
    """
    folder = Path(config.save_dir)
    if (folder / CONFIG).is_file():
        config = configured({**asdict(config), "save_dir": None, "resume": str(folder)})
    return Run(folder) if (folder / RESULTS).is_file() else train(config)


def _open(given: Mapping[str, Any], bits: Sequence[int], folder: Path, runs: Sequence[Path]) -> Source:
    most = max(bits)
    config = make_config({**given, "is_train": True, "k_bits": most})
    if not config.batch_size:
        raise InputError("--batch-size auto: runs that are compared need one batch size; give a number")
    if not runs:
        runs = [finished_run(replace(config, save_dir=str(folder / f"{short_name(config.method)}_{most}"))).path]
    models = sorted((_model(path) for path in runs), key=lambda model: model.k_bits)
    if models[-1].k_bits < most:
        raise InputError(f"--bits {most}: the longest run has {models[-1].k_bits} bits; leave the lengths above it out")
    accelerator = make_accelerator(config)
    data = open_data(config, progress=accelerator.is_main_process and os.isatty(2))
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


def _model(path: str | Path) -> HashModel:
    model = Run(path).load_model()
    if not isinstance(model, HashModel):
        raise InputError(f"--runs {path}: is an exported model; give the run that it was exported from")
    return model


def _options_of(runs: Sequence[Path], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the longest of some runs, and over them those given that say where things are."""
    for path in runs:
        if not (path / RESULTS).is_file():
            raise InputError(f"--runs {path}: holds no finished run; expected a run folder with {RESULTS}")
    saved = {path: Run(path).read_config() for path in runs}
    longest = max(saved, key=lambda path: saved[path]["k_bits"])
    flags = {item.name: flag_of(item) for item in fields(Config)}
    first = saved[longest]
    for path, options in saved.items():
        if wrong := [name for name in ("method", *_SAME_DATA) if options.get(name) != first.get(name)]:
            raise InputError(f"--runs {path}: differs from {longest} in {flags[wrong[0]]}; give runs on the same data")
    if len(runs) > 1 and not (first["features"] or first["freeze_encoder"]):
        raise InputError(
            f"--runs: {len(runs)} runs, each with an encoder that it trained; give one, of which shorter codes are "
            "taken, or runs with --features or --freeze-encoder"
        )
    for name, value in given.items():
        if name not in (*_PLACES, "unseen_labels") and value != first.get(name):
            raise InputError(f"--runs {longest}: was trained with {flags[name]} {first.get(name)}; leave the flag out")
    return {**first, **given, "save_dir": "", "resume": ""}


def _measured(
    source: Source, folder: Path, bits: Sequence[int], aligned: bool, notes: list[str]
) -> Iterator[tuple[Entry, dict[str, dict[str, dict[str, float]]]]]:
    """Every entry with what `measure` gives for it, and in `notes` what was left out."""
    task = source.task
    entries = [*_vector_entries(source, aligned, notes), *_learned_entries(source, folder, bits)]
    for entry in tqdm(entries, "measuring", unit="entry", disable=not shows_progress(source.accelerator)):
        yield entry, measure(entry, task)


def _vector_entries(source: Source, aligned: bool, notes: list[str]) -> Iterator[Entry]:
    """The vectors, their quantizations, and codes that are fitted to them without labels."""
    vectors, train = source.vectors, source.train
    projected = _aligned(source)
    if aligned:
        yield float_entry("unaligned float32", vectors)
        vectors = projected
    else:
        yield float_entry("CCA-aligned float32", projected, "means, maps")
    yield from vector_entries(vectors, train)
    try:
        yield from faiss_entries(vectors, train)
    except InputError as error:
        notes.append(f"left out: {error}")
    image, text = (torch.from_numpy(vectors[modality]) for modality in ("image", "text"))
    if image.shape[1] < FITTED_BITS:
        return
    for name in FITTED:
        head = find_method(name)(image.shape[1], FITTED_BITS)
        head.fit(image[train], text[train], source.config.seed)
        codes = {"image": head.hash_image(Features(None, image)), "text": head.hash_text(Features(None, text))}
        yield bits_entry(name, {modality: values.numpy() for modality, values in codes.items()}, "means, maps")


def _aligned(source: Source) -> dict[str, np.ndarray]:
    """The vectors in the space of canonical correlation analysis, where directions count as much as they correlate."""
    vectors, train = source.vectors, source.train
    least = min(int(values.any(axis=0).sum()) for values in vectors.values())  # zeros fill the narrower of two encoders
    image, text = (torch.from_numpy(vectors[modality][train]) for modality in ("image", "text"))
    head = CCAITQ(source.models[-1].encoder.width, least, iterations=0)
    head.fit(image, text, source.config.seed)
    maps = dict(zip(("image", "text"), head.projections.numpy(), strict=True))
    return {modality: values @ maps[modality] for modality, values in centered(vectors, train).items()}


def _learned_entries(source: Source, folder: Path, bits: Sequence[int]) -> Iterator[Entry]:
    """The codes of the runs, and those of a linear classifier on the same vectors."""
    fitted = {"classifier bits": "a linear classifier, with labels", source.config.method: "the method, with labels"}
    for name, models in ((source.config.method, source.models), ("classifier bits", [_floor(source, folder, bits)])):
        codes = [source.codes(model.to(source.accelerator.device)) for model in models]
        for k in bits:
            shortest = next(values for values in codes if values["image"].shape[1] >= k)
            first = {modality: np.ascontiguousarray(values[:, :k]) for modality, values in shortest.items()}
            yield bits_entry(name, first, fitted[name])


def _floor(source: Source, folder: Path, bits: Sequence[int]) -> HashModel:
    """Classifier bits, trained on the encoder's features."""
    features = source.data.features
    assert features is not None
    options = {name: getattr(source.config, name) for name in _DATA_OPTIONS}
    options |= {"features": str(features.folder), "method": FLOOR, "k_bits": max(bits), "is_train": True}
    config = make_config({**options, "tracker": [], "save_dir": str(folder / f"{FLOOR}_{max(bits)}")})
    return _model(finished_run(config).path)


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
    return f"{named}, trained along with {config.method} on labels, float vectors included"
