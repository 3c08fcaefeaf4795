"""The setup that training and evaluation share: data, split, model."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from math_hash.config import Config
from math_hash.data import (
    DatasetFolder,
    FeatureFolder,
    FeaturePairDataset,
    Needs,
    PairDataset,
    Pairs,
    Split,
    inspect_images,
    read_dataset,
    split_rows,
)
from math_hash.encoders import Encoder, PrecomputedEncoder, named_architecture, open_encoder
from math_hash.encoders.blocks import compile_blocks
from math_hash.errors import InputError
from math_hash.evaluation.exports import DIRECTIONS
from math_hash.methods import WITHOUT_LABELS, complete_options, find_method
from math_hash.models.load import load_model
from math_hash.models.model import HashModel


@dataclass
class Data:
    """A dataset, its split, and what was left out.

    rejected: pictures, row -> reason. unusable: number of rows without a label. pairs_only: no row has a label, so only
    a query's own pair is relevant to it; `folder.labels` then has one column per query or validation row, the split's
    database is its queries, and `unusable` counts rows without a text. is_cached: `features` come from the model's own,
    frozen encoder. image_cache: the cache of resized pictures, or None. unseen: columns of the labels that are never
    trained on; no training or validation row has one.
    """

    folder: DatasetFolder
    split: Split
    features: FeatureFolder | None
    rejected: dict[int, str]
    unusable: int
    pairs_only: bool
    is_cached: bool = False
    image_cache: Any = None
    unseen: tuple[int, ...] = ()

    @property
    def rows_sum(self) -> str:
        """SHA-256 of the dataset's rows, and of the numbers of those that are trained on, in their order."""
        return hashlib.sha256(self.folder.rows_sum.encode() + self.split.train.astype("<i8").tobytes()).hexdigest()

    @property
    def for_training(self) -> "Data":
        """What training is given: the same rows, without the columns of unseen labels."""
        if not self.unseen:
            return self
        names = np.delete(self.folder.label_names, self.unseen).tolist()
        labels = np.delete(self.folder.labels, self.unseen, axis=1)
        folder = replace(self.folder, labels=labels, manifest={**self.folder.manifest, "label_names": names})
        return replace(self, folder=folder, unseen=())

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that can be measured: with pairs only, not image->image and text->text."""
        return tuple(name for name, (a, b) in DIRECTIONS.items() if a != b or not self.pairs_only)

    @property
    def unseen_names(self) -> list[str]:
        """Names of the labels that are never trained on."""
        return [self.folder.label_names[column] for column in self.unseen]

    def pairs(self, model: HashModel) -> Pairs:
        """The rows as input for a model; see `pairs_for`."""
        return self.pairs_for(model.encoder, model.max_words, model.head.needs)

    def pairs_for(self, encoder: Encoder, max_words: int, needs: Needs) -> Pairs:
        """The rows as input for an encoder.

        Raises:
            InputError: pictures for a model of stored features, or the other way round; or features are missing.
        """
        if encoder.takes_pictures != (self.features is None or self.is_cached):
            raise InputError("`features`: required by a model of stored features, and not allowed for one with a CLIP")
        if self.features is None:
            transform, cache = encoder.image_transform, self.image_cache
            return PairDataset(self.folder, encoder.tokenizer, transform, max_words, needs=needs, image_cache=cache)
        widths = (self.features.image_width, self.features.text_width)
        if not self.is_cached and widths != encoder.stored_widths:
            raise InputError(
                f"`features` {self.features.folder}: widths {widths}, but the model takes {encoder.stored_widths}"
            )
        self.features.require(needs)
        return FeaturePairDataset(self.folder, self.features, needs)


def open_data(config: Config, progress: bool = False) -> Data:
    """Read the dataset, split it and check its pictures.

    Missing and empty pictures are detected here. With `--on-bad-image skip` every picture is decoded in advance, and
    unreadable ones are left out of all parts of the split, which otherwise stays the same.

    Raises:
        InputError: something is wrong with the data.
    """
    folder = read_folder(config)
    split = split_rows(len(folder), config.query_num, config.train_num, config.held_out, config.split_seed)
    pairs_only = not folder.labels.any()
    usable = np.array([bool(text) for text in folder.captions]) if pairs_only else folder.labels.any(axis=1)
    split = split.without(np.flatnonzero(~usable))
    if not len(split.query) or not len(split.train):
        raise InputError(
            f"{folder.path}: no rows are left for queries or for training; they need labels, or at least texts"
        )
    unseen = _unseen_labels(config, folder)
    split = _without_unseen(config, folder, split, unseen)
    if pairs_only:
        folder, split = _pairs_as_labels(folder, split)
    data = Data(folder, split, None, {}, int((~usable).sum()), pairs_only, unseen=unseen)
    if config.features:
        return replace(data, features=FeatureFolder(config.features, len(folder)))
    rejected = rejected_pictures(config, folder, progress)
    return replace(data, split=split.without(np.fromiter(rejected, int)), rejected=rejected)


def read_folder(config: Config) -> DatasetFolder:
    """Read the dataset's files.

    Raises:
        InputError: one is missing or damaged, or they do not fit together.
    """
    return read_dataset(
        config.dataset_folder,
        image_root=config.image_root,
        index_file=config.index_file,
        caption_file=config.caption_file,
        label_file=config.label_file,
        label_t_file=config.label_t_file,
    )


def rejected_pictures(config: Config, folder: DatasetFolder, progress: bool = False) -> dict[int, str]:
    """The pictures to leave out, row -> reason: with `--on-bad-image skip`, those that cannot be decoded.

    Raises:
        InputError: without it, a picture is missing or empty.
    """
    skip = config.on_bad_image == "skip"
    paths = (folder.image_path(row) for row in range(len(folder)))
    rejected = inspect_images(paths, max(config.num_workers, 2), decode=skip, progress=progress and skip).bad
    if rejected and not skip:
        row, reason = next(iter(rejected.items()))
        more = f" ({len(rejected)} pictures are missing or empty)" if len(rejected) > 1 else ""
        raise InputError(f"{folder.path}, row {row}: {reason}{more}; check `image_root`, or use `on_bad_image` skip")
    return rejected


def _unseen_labels(config: Config, folder: DatasetFolder) -> tuple[int, ...]:
    """The columns of the labels that are never trained on, for `--unseen-labels`."""
    wanted, labels = config.unseen_labels, folder.labels.shape[1]
    if wanted and not 2 <= wanted < labels:
        raise InputError(
            f"`unseen_labels` {wanted}: {folder.path} has {labels} labels; expected at least 2 and less than all "
            "(all rows that carry the only unseen label would be relevant to each other)"
        )
    return tuple(sorted(np.random.RandomState(config.split_seed).permutation(labels)[:wanted].tolist()))


def _without_unseen(config: Config, folder: DatasetFolder, split: Split, unseen: tuple[int, ...]) -> Split:
    """The split without training and validation rows that have an unseen label."""
    if not unseen:
        return split
    carries = np.asarray(folder.labels[:, unseen].any(axis=1))
    split = replace(split, train=split.train[~carries[split.train]], val=split.val[~carries[split.val]])
    left = {
        "training rows": len(split.train),
        "queries with one": carries[split.query].sum(),
        "database rows with one": carries[split.database].sum(),
    }
    if config.held_out:
        left["validation rows"] = len(split.val)
    if not all(left.values()):
        listing = ", ".join(f"{count} {name}" for name, count in left.items())
        raise InputError(f"`unseen_labels` {config.unseen_labels}: leaves {listing}; expected some of each")
    return split


def _pairs_as_labels(folder: DatasetFolder, split: Split) -> tuple[DatasetFolder, Split]:
    asked = np.concatenate([split.query, split.val])
    labels = np.zeros((len(folder), len(asked)), np.uint8)
    labels[asked, np.arange(len(asked))] = 1
    return replace(folder, labels=labels), replace(split, database=split.query)


def with_usable_method(config: Config, data: Data) -> Config:
    """The configuration; without labels in the data, with a method that needs none."""
    if data.pairs_only and find_method(config.method).needs.labels:
        return replace(config, method=WITHOUT_LABELS, method_options={})
    return config


def open_model(config: Config, data: Data) -> HashModel:
    """Build the model that training starts from: a new head on the named encoder, or `--pretrained`.

    Raises:
        InputError: weights are missing, or the pretrained model has another code length, method or encoder.
    """
    if config.pretrained:
        start = open_trained(config)
        encoder, max_words = start.encoder, start.max_words
    else:
        encoder, max_words = new_encoder(config, data.features), config.max_words
    facts = {"num_labels": data.folder.labels.shape[1], "stage_widths": encoder.stage_widths}
    options = complete_options(config.method, config.method_options, facts)
    model = HashModel(encoder, config.method, config.k_bits, options, max_words)
    if config.pretrained:
        try:
            model.head.load_state_dict(start.head.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"`pretrained` {config.pretrained}: its head does not have the layers of this run's options; "
                "give the options that it was trained with"
            ) from error
    if config.freeze_encoder:
        model.encoder.requires_grad_(False)
    elif config.gradient_checkpointing:
        encoder.set_grad_checkpointing()
    if config.compile:
        compile_blocks(model)
    return model


def new_encoder(config: Config, features: FeatureFolder | None) -> Encoder:
    """The encoder that the options name: a CLIP, or one that passes stored features through, if there are any.

    Raises:
        InputError: its weights are missing or damaged, or `max_words` is above its context length.
    """
    if features is not None:
        return PrecomputedEncoder(features.image_width, features.text_width, features.stage_widths)
    encoder = open_encoder(config.clip_path, config.encoder, config.encoder_weights, config.resolution)
    if config.max_words > encoder.context_length:
        raise InputError(f"`max_words` {config.max_words}: this encoder reads at most {encoder.context_length} tokens")
    return encoder


def open_trained(config: Config) -> HashModel:
    """Open `--pretrained` and check that it matches the other options.

    Raises:
        InputError: it is missing, damaged, or has another code length, method or encoder.
    """
    model = load_model(config.pretrained)
    if not isinstance(model, HashModel):
        raise InputError(
            f"`pretrained` {config.pretrained}: is an exported model, such as ONNX; give the run that it was "
            "exported from"
        )
    for option, wanted, given in (("k_bits", config.k_bits, model.k_bits), ("method", config.method, model.method)):
        if wanted != given:
            raise InputError(f"`pretrained` {config.pretrained}: trained with `{option}` {given}, not {wanted}")
    architecture = model.encoder.spec.get("architecture")
    if config.encoder and architecture and named_architecture(config.encoder, model.encoder.resolution) != architecture:
        raise InputError(f"`pretrained` {config.pretrained}: its encoder is not {config.encoder}")
    return model
