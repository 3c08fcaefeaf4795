"""Image-text pairs as PyTorch reads them: one item per row, batches by lists of rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from math_hash.data.feature_folder import FeatureFolder
from math_hash.data.folder import DatasetFolder
from math_hash.data.images import ImageTransform, open_image
from math_hash.data.needs import EVERYTHING, Needs
from math_hash.data.token_ids import TokenIds, Tokenizer
from math_hash.errors import InputError

STREAMS = ("image", "text", "label")


class PixelCache(Protocol):
    """A cache of resized pictures."""

    def pixels(self, row: int, train: bool, make: Callable[[], Tensor]) -> Tensor:
        """A row's picture, uint8 (3, resolution, resolution): from the cache, or from `make`, and then kept."""


class PairDataset(Dataset):
    """Rows of a dataset as the encoder takes them.

    An item is a dictionary: `image` float32 (3, resolution, resolution), `text` and `label_text` int64 (max_words,)
    token ids, `label` uint8 (c,), `index` the row's number.

    Args:
        folder: the dataset.
        tokenizer: of the texts, each of which it is called for when the text is first read.
        transform: of the pictures.
        max_words: length of the token ids.
        train: use the transform's form for training.
        needs: what a method uses; without `padding`, tokens that are padding in a whole batch are left out of it.
        image_cache: keeps resized pictures; None: each is decoded whenever it is read.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        tokenizer: Tokenizer,
        transform: ImageTransform,
        max_words: int,
        train: bool = False,
        needs: Needs = EVERYTHING,
        image_cache: PixelCache | None = None,
    ):
        self.image_cache = image_cache
        self.folder, self.transform, self.train, self.needs = folder, transform, train, needs
        self.tokenizer, self.max_words = tokenizer, max_words
        self.draw: tuple[int, ...] | None = None
        self.streams: tuple[str, ...] = STREAMS
        self.text_ids = TokenIds(folder.captions, tokenizer, max_words)
        self.label_text_ids = TokenIds(folder.label_texts, tokenizer, max_words)

    def with_streams(self, streams: tuple[str, ...]) -> "PairDataset":
        """The same rows, of which an item has only these of "image", "text" and "label"; token ids are shared."""
        return self._changed(streams=streams)

    def for_training(self, streams: tuple[str, ...] = STREAMS, draw: tuple[int, ...] | None = None) -> "PairDataset":
        """As `with_streams`, with pictures in the form for training.

        Args:
            streams: some of "image", "text" and "label".
            draw: numbers that decide which one of a row's texts is used; None: the one in `caption.mat`.
        """
        return self._changed(streams=streams, train=True, draw=draw)

    def _changed(self, **attributes: Any) -> "PairDataset":
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, **attributes}
        return other

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, row: int) -> dict[str, Any] | InputError:
        item: dict[str, Any] = {"label": self.folder.labels[row], "index": row}
        if "text" in self.streams:
            item["text"] = self._text(row)
        if "label" in self.streams:
            item["label_text"] = self.label_text_ids[row]
        if "image" in self.streams:
            try:
                item["image"] = self._image(row)
            except InputError as error:
                # returned, not raised: a data loader's worker would wrap it into a traceback
                return InputError(f"{self.folder.path}, row {row}: {error}")
        return item

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any] | InputError]:
        """The items of a batch, as the data loader asks for them; their texts are tokenized at once."""
        if "text" in self.streams and self.draw is None:
            self.text_ids.of_rows(rows)
        if "label" in self.streams:
            self.label_text_ids.of_rows(rows)
        return [self[row] for row in rows]

    def _image(self, row: int) -> Tensor:
        def decode() -> Tensor:
            return self.transform.pixels(open_image(self.folder.image_path(row)), self.train)

        pixels = self.image_cache.pixels(row, self.train, decode) if self.image_cache else decode()
        return self.transform.normalized(pixels)

    def _text(self, row: int) -> Tensor:
        if self.draw is None or len(texts := self.folder.texts[row]) < 2:
            return self.text_ids[row]
        drawn = np.random.default_rng([*self.draw, row]).integers(len(texts))
        return self.tokenizer([texts[drawn]], self.max_words)[0]


class FeaturePairDataset(Dataset):
    """The rows of `PairDataset` with stored features in place of pictures and token ids, read one batch at a time.

    Args:
        folder: the dataset.
        features: of its rows.
        needs: what a method uses of the features.
    """

    def __init__(self, folder: DatasetFolder, features: FeatureFolder, needs: Needs):
        self.folder, self.features, self.needs = folder, features, needs
        self.streams: tuple[str, ...] = STREAMS

    def with_streams(self, streams: tuple[str, ...]) -> "FeaturePairDataset":
        """The same rows, of which a batch has only these of "image", "text" and "label"."""
        other = FeaturePairDataset(self.folder, self.features, self.needs)
        other.streams = streams
        return other

    def for_training(
        self, streams: tuple[str, ...] = STREAMS, draw: tuple[int, ...] | None = None
    ) -> "FeaturePairDataset":
        """As `with_streams`: stored features have one form."""
        return self.with_streams(streams)

    def __len__(self) -> int:
        return len(self.folder)

    def __getitems__(self, rows: list[int]) -> dict[str, Any]:
        """A whole batch, as the data loader asks for it."""
        batch: dict[str, Any] = {"label": torch.from_numpy(self.folder.labels[rows]), "index": torch.tensor(rows)}
        for stream in self.streams:
            if stream != "label":
                batch[stream] = self.features.batch(stream, rows, self.needs)
            elif self.needs.label_text:
                batch["label_text"] = self.features.batch("label", rows, self.needs)
        return batch


Pairs: TypeAlias = PairDataset | FeaturePairDataset


def load_batches(
    dataset: Dataset, batches: Sequence[np.ndarray], num_workers: int = 0, device: str | torch.device = "cpu"
) -> Iterator[dict[str, Any]]:
    """Yield one collated batch for each list of rows, in order, on `device`.

    Args:
        dataset: a `PairDataset` or `FeaturePairDataset`, or one with items of the same form.
        batches: int64 arrays, the rows of each batch.
        num_workers: processes that read rows; 0: this process reads them.
        device: where the batches are to be.

    Raises:
        InputError: a picture of a batch cannot be read.
    """
    device = torch.device(device)
    loader = DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=min(num_workers, len(batches)),
        collate_fn=partial(_collate, lengths=_lengths_to_trim(dataset)),
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield to_device(batch, device)


def to_device(value: Any, device: torch.device) -> Any:
    """A nested dictionary, or a single tensor, with all tensors moved to `device`."""
    if isinstance(value, dict):
        return {name: to_device(item, device) for name, item in value.items()}
    return value.to(device, non_blocking=True)


def _lengths_to_trim(dataset: Dataset) -> Callable[[Tensor], Tensor] | None:
    """What tells the lengths of a batch's texts, where tokens that are padding in all of them are to be left out."""
    if not isinstance(dataset, PairDataset) or dataset.needs.padding:
        return None
    return dataset.tokenizer.lengths


def _collate(
    items: list[dict[str, Any] | InputError] | dict[str, Any], lengths: Callable[[Tensor], Tensor] | None
) -> dict[str, Any] | InputError:
    if isinstance(items, dict):  # a whole batch already
        return items
    if errors := [item for item in items if isinstance(item, InputError)]:
        return errors[0]
    batch = default_collate(items)
    if lengths is not None:
        for name in {"text", "label_text"} & batch.keys():
            batch[name] = batch[name][:, : int(lengths(batch[name]).max())]
    return batch
