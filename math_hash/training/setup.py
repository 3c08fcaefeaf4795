"""What training and evaluation have in common before they start: data, split, model."""

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from math_hash.config import Config
from math_hash.data import (
    DatasetFolder,
    FeatureFolder,
    FeaturePairDataset,
    PairDataset,
    Split,
    bad_images,
    read_dataset,
    split_rows,
)
from math_hash.encoders import ClipEncoder, PrecomputedEncoder, named_architecture, open_encoder
from math_hash.errors import InputError
from math_hash.loading import load_model
from math_hash.methods import method_options
from math_hash.model import HashModel


@dataclass
class Data:
    """A dataset, its split, and the pictures that were left out: row -> reason."""

    folder: DatasetFolder
    split: Split
    features: FeatureFolder | None
    rejected: dict[int, str]

    def pairs(self, model: HashModel) -> Dataset:
        """The rows as the model's encoder takes them.

        Raises:
            InputError: pictures for a model of stored features, or the other way round.
        """
        encoder = model.encoder
        if isinstance(encoder, ClipEncoder) != (self.features is None):
            raise InputError("--features: a model of stored features needs it, a model with a CLIP takes none")
        if self.features is None:
            return PairDataset(self.folder, encoder.tokenize, encoder.image_transform, model.max_words)
        widths = (self.features.image_width, self.features.text_width)
        if widths != (encoder.image_width, encoder.text_width):
            raise InputError(
                f"--features {self.features.folder}: widths {widths}, but the model takes "
                f"{(encoder.image_width, encoder.text_width)}"
            )
        return FeaturePairDataset(self.folder, self.features)


def open_data(config: Config, progress: bool = False) -> Data:
    """Read the dataset, split it and check its pictures.

    Missing and empty pictures are found at once. With `--on-bad-image skip` every picture is decoded beforehand, and
    the unreadable ones are left out of all parts of the split, which otherwise stays the same.

    Raises:
        InputError: anything about the data is not as it must be.
    """
    folder = read_dataset(
        config.dataset_folder,
        image_root=config.image_root,
        index_file=config.index_file,
        caption_file=config.caption_file,
        label_file=config.label_file,
        label_t_file=config.label_t_file,
    )
    split = split_rows(len(folder), config.query_num, config.train_num, config.held_out, config.split_seed)
    if config.features:
        return Data(folder, split, FeatureFolder(config.features, len(folder)), {})
    skip = config.on_bad_image == "skip"
    paths = (folder.image_path(row) for row in range(len(folder)))
    rejected = bad_images(paths, max(config.num_workers, 2), decode=skip, progress=progress and skip)
    if rejected and not skip:
        row, reason = next(iter(rejected.items()))
        more = f" ({len(rejected)} pictures are missing or empty)" if len(rejected) > 1 else ""
        raise InputError(f"{folder.path}, row {row}: {reason}{more}; check --image-root, or use --on-bad-image skip")
    return Data(folder, split.without(np.fromiter(rejected, int)), None, rejected)


def open_model(config: Config, data: Data) -> HashModel:
    """Build the model that training starts from: a new head on the named encoder, or `--pretrained`.

    Raises:
        InputError: weights are missing, or the pretrained model is of another length, method or encoder.
    """
    options = method_options(config.method, config)
    if config.pretrained:
        start = open_trained(config)
        model = HashModel(start.encoder, config.method, config.k_bits, options, start.max_words)
        try:
            model.head.load_state_dict(start.head.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"--pretrained {config.pretrained}: its head has other layers than this run's options; "
                "give the options that it was trained with"
            ) from error
    else:
        if data.features is not None:
            encoder = PrecomputedEncoder(data.features.image_width, data.features.text_width)
        else:
            encoder = open_encoder(config.clip_path, config.encoder, config.encoder_weights, config.resolution)
            if config.max_words > encoder.context_length:
                raise InputError(
                    f"--max-words {config.max_words}: this encoder reads at most {encoder.context_length} tokens"
                )
        model = HashModel(encoder, config.method, config.k_bits, options, config.max_words)
    if config.freeze_encoder:
        model.encoder.requires_grad_(False)
    return model


def open_trained(config: Config) -> HashModel:
    """Open `--pretrained` and check that it is what the other options say.

    Raises:
        InputError: it is missing, damaged, or of another length, method or encoder.
    """
    model = load_model(config.pretrained)
    for flag, wanted, found in (
        ("--k-bits", config.k_bits, model.k_bits),
        ("--method", config.method, model.method),
    ):
        if wanted != found:
            raise InputError(f"--pretrained {config.pretrained}: trained with {flag} {found}, not {wanted}")
    encoder = model.encoder
    named = config.encoder and isinstance(encoder, ClipEncoder)
    if named and named_architecture(config.encoder, encoder.resolution) != encoder.architecture:
        raise InputError(f"--pretrained {config.pretrained}: its encoder is not {config.encoder}")
    return model
