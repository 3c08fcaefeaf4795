"""Opening a collection that is to be encoded, of whatever form: its records, and the pictures' files."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from math_hash.data import DatasetFolder, read_dataset
from math_hash.data.collection import read_collection
from math_hash.data.embeddings import Embeddings, has_embeddings_of, holds_embeddings, open_embeddings
from math_hash.data.folder import inside_root
from math_hash.data.images import ImageFile, TarMember
from math_hash.data.records import Columns, Record
from math_hash.data.remote import is_remote
from math_hash.data.same_picture import refuse_repeats
from math_hash.errors import InputError
from math_hash.models.code_model import CodeModel, Modality


@dataclass(frozen=True)
class Collection:
    """A collection that can be read several times.

    Attributes:
        root: what image paths start from.
        records: reads it from its beginning.
        embeddings: what its records come from, if they are vectors.
        remote: it is read over the network.
    """

    root: Path
    records: Callable[[], Iterator[Record]]
    embeddings: Embeddings | None = None
    remote: bool = False

    def count(self) -> int | None:
        """The number of records; None where it would have to be downloaded to be counted."""
        if self.embeddings:
            return self.embeddings.rows
        return None if self.remote else sum(1 for _ in self.records())


def likely_modality(source: str | Path) -> Modality:
    """What a collection most likely is to be encoded as: "text" for lines and embeddings of texts, else "image"."""
    if str(source).lower().endswith(".txt"):
        return "text"
    of_texts = not is_remote(source) and holds_embeddings(Path(source)) and not has_embeddings_of(Path(source), "image")
    return "text" if of_texts else "image"


def open_collection(
    model: CodeModel, source: str | Path, modality: Modality, columns: Columns, image_root: str | Path | None = None
) -> Collection:
    """Open a collection of any form that `encode_collection` takes; records without the modality have a `problem`.

    Args:
        model: what will encode it; embeddings have to be of its width.

    Raises:
        InputError: `source` is of no known form, the modality is unknown, or the embeddings do not fit.
    """
    if modality not in ("image", "text"):
        raise InputError(f"`modality` {modality}: expected image or text")
    columns, path = replace(columns, needed=modality), Path(source)
    remote = is_remote(source)
    if not remote and holds_embeddings(path):
        embeddings = open_embeddings(path, modality, columns, model.vector_width(modality))
        return Collection(path, embeddings.records, embeddings)
    if not remote and (path / "index.mat").is_file():
        folder = read_dataset(path, image_root=image_root or "", allow_unlabelled=True)
        rows = range(len(folder))
        return Collection(folder.image_root, lambda: (columns.checked(_dataset_record(folder, row)) for row in rows))
    root, _ = read_collection(source, columns)

    def records() -> Iterator[Record]:
        streamed = read_collection(source, columns)[1]
        return streamed if remote else refuse_repeats(streamed)

    return Collection(Path(image_root or root), records, remote=remote)


def _dataset_record(folder: DatasetFolder, row: int) -> Record:
    names = [name for name, has in zip(folder.label_names, folder.labels[row], strict=True) if has]
    offset, size = (-1, -1) if folder.members is None else folder.members[row].tolist()
    texts = [text for text in folder.texts[row] if text]
    image = folder.images[row]
    return Record(f"{folder.path}, row {row}", image, image, texts, names, (offset, size))


def image_file(root: Path, record: Record) -> ImageFile:
    """The file of a record's picture.

    Raises:
        InputError: its path leads out of `root`.
    """
    if record.content is not None:
        return io.BytesIO(record.content)
    path = inside_root(root, record.image)
    return TarMember.of(path, *record.member) if record.member[0] >= 0 else path
