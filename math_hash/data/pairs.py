"""Image-text pairs as PyTorch reads them: one item a row, batches by lists of rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from math_hash.data.feature_folder import FeatureFolder
from math_hash.data.folder import DatasetFolder
from math_hash.data.images import ImageTransform, open_image
from math_hash.errors import InputError


class PairDataset(Dataset):
    """Rows of a dataset as the encoder takes them.

    An item is a dictionary: `image` float32 (3, resolution, resolution), `text` and `label_text` int64 (max_words,)
    token ids, `label` uint8 (c,), `index` the row's number.

    Args:
        folder: the dataset.
        tokenize: texts and a length -> token ids, int64 (n, length).
        transform: of the pictures.
        max_words: length of the token ids.
        train: use the transform's form for training.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        tokenize: Callable[[list[str], int], Tensor],
        transform: ImageTransform,
        max_words: int,
        train: bool = False,
    ):
        self.folder, self.transform, self.train = folder, transform, train
        self.tokenize, self.max_words, self.draw = tokenize, max_words, None
        self.text_ids = tokenize(folder.captions, max_words)
        self.label_text_ids = tokenize(folder.label_texts, max_words)

    def for_training(self, draw: tuple[int, ...] | None = None) -> "PairDataset":
        """The same rows, pictures in the form for training; token ids are shared.

        Args:
            draw: numbers that decide which one of a row's texts is taken; None: the one in `caption.mat`.
        """
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "train": True, "draw": draw}
        return other

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, row: int) -> dict[str, Any] | InputError:
        try:
            image = open_image(self.folder.image_path(row))
        except InputError as error:
            # returned, not raised: a data loader's worker would wrap it into a traceback
            return InputError(f"{self.folder.path}, row {row}: {error}")
        return {
            "image": self.transform(image, self.train),
            "text": self._text(row),
            "label_text": self.label_text_ids[row],
            "label": self.folder.labels[row],
            "index": row,
        }

    def _text(self, row: int) -> Tensor:
        texts = self.folder.texts[row] if self.draw is not None else ()
        if len(texts) < 2:
            return self.text_ids[row]
        drawn = np.random.default_rng([*self.draw, row]).integers(len(texts))
        return self.tokenize([texts[drawn]], self.max_words)[0]


class FeaturePairDataset(Dataset):
    """The rows of `PairDataset` with stored features in the place of pictures and token ids."""

    def __init__(self, folder: DatasetFolder, features: FeatureFolder):
        self.folder, self.features = folder, features

    def for_training(self, draw: None = None) -> "FeaturePairDataset":
        """Itself: stored features have one form."""
        return self

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {
            "image": self.features["image", row],
            "text": self.features["text", row],
            "label_text": self.features["label", row],
            "label": self.folder.labels[row],
            "index": row,
        }


def load_batches(
    dataset: Dataset, batches: Sequence[np.ndarray], num_workers: int = 0, device: str | torch.device = "cpu"
) -> Iterator[dict[str, Any]]:
    """Yield one collated batch for each list of rows, in order, on `device`.

    Raises:
        InputError: a picture of a batch cannot be read.
    """
    device = torch.device(device)
    loader = DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=min(num_workers, len(batches)),
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield to_device(batch, device)


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors of a nested dictionary."""
    if isinstance(value, dict):
        return {name: to_device(item, device) for name, item in value.items()}
    return value.to(device, non_blocking=True)


def _collate(items: list[dict[str, Any] | InputError]) -> dict[str, Any] | InputError:
    errors = [item for item in items if isinstance(item, InputError)]
    return errors[0] if errors else default_collate(items)
