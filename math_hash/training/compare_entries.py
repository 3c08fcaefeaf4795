"""The entries of a comparison that need models: an encoder's vectors, what is fitted to them, and trained codes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from math_hash.config import Config, make_config
from math_hash.encoders import Features
from math_hash.errors import InputError
from math_hash.evaluation.compare import Entry, Task, bits_entry
from math_hash.evaluation.quantizers import Vectors, centered, faiss_entries, float_entry, vector_entries
from math_hash.methods import find_method, short_name
from math_hash.methods.training_free import CCAITQ
from math_hash.models.model import HashModel
from math_hash.training.api import configured, train
from math_hash.training.evaluate import continuous_codes
from math_hash.training.run_folder import CONFIG, RESULTS, Run
from math_hash.training.setup import Data
from math_hash.training.state import shows_progress

FLOOR = "ClassifierBits"
FITTED, FITTED_BITS = ("PCA", "ITQ", "CCA-ITQ"), 64
# options that say which rows are used and where they are; those of the method's training are not for the floor
_DATA_OPTIONS = (
    "dataset", "dataset_root", "index_file", "caption_file", "label_file", "label_t_file", "query_num", "train_num",
    "val_num", "split_seed", "unseen_labels", "seed", "precision", "num_workers", "device",
)  # fmt: skip


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


def finished_run(config: Config) -> Run:
    """The run of `config.save_dir`: as it is if it is finished, else continued or trained.

    Raises:
        InputError: it was started with other options, or training fails.
    """
    folder = Path(config.save_dir)
    if (folder / CONFIG).is_file():
        config = configured({**asdict(config), "save_dir": None, "resume": str(folder)})
    return Run(folder) if (folder / RESULTS).is_file() else train(config)


def trained_model(path: str | Path) -> HashModel:
    """The model of a run.

    Raises:
        InputError: it is an exported model, which has no encoder of its own.
    """
    model = Run(path).load_model()
    if not isinstance(model, HashModel):
        raise InputError(f"`runs` {path}: is an exported model; give the run that it was exported from")
    return model


def fitted_entries(source: Source, aligned: bool, notes: list[str]) -> Iterator[Entry]:
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


def learned_entries(source: Source, folder: Path, bits: Sequence[int]) -> Iterator[Entry]:
    """The codes of the runs, and those of a linear classifier on the same vectors."""
    config = source.config
    ours = f"the method{with_labels(config)}"
    floor = [_floor(source, folder, bits)]
    for name, models, fitted in (
        (short_name(config.method), source.models, ours),
        ("classifier bits", floor, "a linear classifier, with labels"),
    ):
        codes = [source.codes(model.to(source.accelerator.device)) for model in models]
        for k in bits:
            shortest = next(values for values in codes if values["image"].shape[1] >= k)
            first = {modality: np.ascontiguousarray(values[:, :k]) for modality, values in shortest.items()}
            yield bits_entry(name, first, fitted)


def _floor(source: Source, folder: Path, bits: Sequence[int]) -> HashModel:
    """Classifier bits, trained on the encoder's features."""
    features = source.data.features
    assert features is not None
    options = {name: getattr(source.config, name) for name in _DATA_OPTIONS}
    options |= {"features": str(features.folder), "method": FLOOR, "k_bits": max(bits), "is_train": True}
    config = make_config({**options, "tracker": [], "save_dir": str(folder / f"{FLOOR}_{max(bits)}")})
    return trained_model(finished_run(config).path)


def with_labels(config: Config) -> str:
    """What is said of a method that trains with labels."""
    return ", with labels" if find_method(config.method).needs.labels else ""
