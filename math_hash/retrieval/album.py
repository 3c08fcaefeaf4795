"""An album: a folder of photographs, their index, and what keeps the two equal.

The index is the truth: a row for each content that occurs among the photographs, whose id begins its SHA-256 sum and
whose metadata name the files that have it. A sync looks up what is in the folder and changes the rows to fit, in
transactions of the index, so that what the album holds depends on the folder alone and not on what was interrupted.
"""

import io
import json
import os
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from math_hash.data.exif import photo_metadata
from math_hash.data.rejected import write_rejected
from math_hash.errors import InputError
from math_hash.files import read_json, write_text
from math_hash.retrieval.album_files import (
    CONFIG,
    LOCK,
    Changes,
    PictureFile,
    Skipped,
    is_settled,
    list_pictures,
    read_manifest,
    with_sums,
    write_manifest,
)
from math_hash.retrieval.opening import open_index

if TYPE_CHECKING:
    from torch import Tensor

    from math_hash.data.images import ImageTransform
    from math_hash.models.code_model import CodeModel

OWN_MODEL = "model"  # in the album's folder
_INDEX, _MANIFEST, _SKIPPED = "index", "manifest.jsonl", "skipped.tsv"
_BATCH = 64  # pictures that are encoded, and added to the index, at once
_PATIENCE = 10  # seconds to wait for another sync
_FORMAT = 1
_CHANGED = "changed while it was read; the next sync takes it up"


@dataclass(frozen=True)
class AlbumConfig:
    """What an album was made of: its `album.json`.

    Attributes:
        photos: the folder of photographs, from the album's folder.
        model: what `load_model` takes, "model" being the folder of this name in the album.
        fingerprint, k_bits: of that model.
        choices: what was chosen for it, by option.
    """

    photos: str
    model: str
    fingerprint: str
    k_bits: int
    choices: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT

    @classmethod
    def read(cls, folder: Path) -> "AlbumConfig":
        """Read it from the album's folder.

        Raises:
            InputError: no album is there, or it is damaged or of another version.
        """
        path = folder / CONFIG
        if not path.is_file():
            raise InputError(f"{folder}: no album is there; make one with `math-hash album PHOTOS {folder}`")
        content = read_json(path)
        try:
            config = cls(**content)
            if config.format != _FORMAT:
                raise ValueError(f"format {config.format}, expected {_FORMAT}")
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: damaged or of another version ({error}); delete {folder}") from error
        return config

    def write(self, folder: Path) -> None:
        """Write it atomically.

        Raises:
            InputError: it cannot be written.
        """
        write_text(folder / CONFIG, json.dumps(asdict(self), indent=2) + "\n")


class Album:
    """An album that was begun.

    Args:
        folder: the album's folder.
        load: `load_model`, on the device and in the precision that are wanted; called when the model is first needed.

    Attributes:
        folder: the album's folder, absolute.
        photos: the folder of photographs, absolute.
        index: rows with metadata "image", path of the picture; "copies", paths of other files with the same
            content; "sum", its SHA-256; and those of `photo_metadata`.

    Raises:
        InputError: no album is there, or it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], load: "Callable[[str], CodeModel]"):
        self.folder = Path(os.path.abspath(folder))
        self.config = AlbumConfig.read(self.folder)
        self.photos = Path(os.path.normpath(self.folder / self.config.photos))
        self.index = open_index(self.folder / _INDEX, self.config.k_bits, self.config.fingerprint)
        self._load = load
        self._listed: list[PictureFile] | None = None  # at the last sync
        self._unreadable: dict[str, str] = {}  # id -> reason

    @cached_property
    def model(self) -> "CodeModel":
        """The album's model.

        Raises:
            InputError: it is not there any more, or is another one now.
        """
        name = self.config.model
        model = self._load(str(self.folder / name) if name == OWN_MODEL else name)
        self.index.require_model(model.fingerprint, model.k_bits)
        return model

    def __enter__(self) -> "Album":
        return self

    def __exit__(self, *error: object) -> None:
        self.index.close()

    def sync(self, progress: bool = False, stop: threading.Event | None = None) -> Changes:
        """Take up what changed in the folder of photographs. After a kill at any moment, the next call goes on.

        Args:
            progress: show a progress bar.
            stop: ends it early when it is set; what was encoded until then is kept.

        Returns:
            What changed; nothing if all files have the sizes and times that they had at this object's last call.

        Raises:
            InputError: the folder is missing, cannot be listed or has lost all of its pictures; another sync of this
                album runs; or the album cannot be written.
        """
        started = time.time_ns()
        listed, skipped = list_pictures(self.photos, self.folder)
        if listed == self._listed:
            return Changes()
        with _alone(self.folder):
            files, unread = with_sums(self.photos, listed, read_manifest(self.folder / _MANIFEST), progress)
            write_manifest(self.folder / _MANIFEST, files, started)
            wanted: dict[str, list[PictureFile]] = defaultdict(list)
            for file in files:
                wanted[file.id].append(file)
            before = self._rows()
            if before and not wanted:
                raise InputError(
                    f"{self.photos}: holds none of the album's pictures any more; is a disk missing? To empty the "
                    f"album, delete {self.folder}"
                )
            self._move(before, wanted)
            new = {row_id: group for row_id, group in wanted.items() if row_id not in before}
            skipped = sorted([*skipped, *unread, *self._add(new, progress, stop)])
            self.index.delete([row_id for row_id in before if row_id not in wanted])
            write_rejected(self.folder / _SKIPPED, skipped)
            changes = Changes.between(_paths(before), _paths(self._rows()), skipped)
            if changes:
                self.index.save()
        self._listed = listed if all(is_settled(file, started) for file in listed) else None
        return changes

    def _rows(self) -> dict[str, dict[str, Any]]:
        """Metadata of the rows that stand for pictures of the folder, by id."""
        ids = self.index.all_codes()[0].tolist()
        rows = zip(ids, self.index.rows(ids), strict=True)
        return {row_id: row[1] for row_id, row in rows if row and "sum" in row[1]}

    def _move(self, before: Mapping[str, dict[str, Any]], wanted: Mapping[str, Sequence[PictureFile]]) -> None:
        """Give the rows that stay the paths that their pictures have now."""
        now = {row_id: _named(wanted[row_id], before[row_id]) for row_id in before if row_id in wanted}
        moved = [row_id for row_id, metadata in now.items() if metadata != before[row_id]]
        self.index.set_metadata(moved, [now[row_id] for row_id in moved])

    def _add(
        self, new: Mapping[str, Sequence[PictureFile]], progress: bool, stop: threading.Event | None
    ) -> list[Skipped]:
        """Add a row for each content, by id; returns the files that cannot be read."""
        reasons = {row_id: self._unreadable[row_id] for row_id in new if row_id in self._unreadable}
        files = [group[0] for row_id, group in new.items() if row_id not in reasons]
        if files:
            import torch

            bar = tqdm(total=len(files), desc="encoding photographs", unit="picture", disable=not progress)
            for batch in read_pictures(self.photos, files, self.model.image_transform):
                pictures = {file.id: picture for file, picture in batch if not isinstance(picture, str)}
                reasons |= {file.id: picture for file, picture in batch if isinstance(picture, str)}
                if pictures:
                    codes = self.model.encode_image(torch.stack([picture.pixels for picture in pictures.values()]))
                    metadata = [_named(new[row_id], picture.metadata) for row_id, picture in pictures.items()]
                    self.index.add(list(pictures), codes, metadata)
                bar.update(len(batch))
                if stop and stop.is_set():
                    break
            bar.close()
        self._unreadable |= {row_id: reason for row_id, reason in reasons.items() if reason != _CHANGED}
        return [(file.path, reason) for row_id, reason in reasons.items() for file in new[row_id]]


@dataclass(frozen=True)
class Picture:
    """A picture that was read: the encoder's input, float32 (3, resolution, resolution), and what its file says."""

    pixels: "Tensor"
    metadata: dict[str, Any]


def read_pictures(
    photos: Path, files: Sequence[PictureFile], transform: "ImageTransform"
) -> Iterator[list[tuple[PictureFile, Picture | str]]]:
    """Read files with sums, in batches, one batch ahead of the one that is handed out; or why they cannot be used."""
    waiting: deque[list[tuple[PictureFile, Future[Picture | str]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files) + _BATCH, _BATCH):
            batch = files[start : start + _BATCH]
            waiting.append([(file, pool.submit(_read, photos, file, transform)) for file in batch])
            if len(waiting) > 1:
                yield [(file, future.result()) for file, future in waiting.popleft()]


def _read(photos: Path, file: PictureFile, transform: "ImageTransform") -> Picture | str:
    from math_hash.data.images import open_image

    try:
        content = (photos / file.path).read_bytes()
    except OSError:
        return _CHANGED
    if sha256(content).hexdigest() != file.sum:
        return _CHANGED
    try:
        pixels = transform(open_image(io.BytesIO(content)))
    except InputError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    return Picture(pixels, photo_metadata(io.BytesIO(content)))


def _named(files: Sequence[PictureFile], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a content that is in these files, from what else is known of it."""
    copies = {"copies": [file.path for file in files[1:]]} if len(files) > 1 else {}
    others = {name: value for name, value in facts.items() if name != "copies"}
    return {**others, "image": files[0].path, **copies, "sum": files[0].sum}


def _paths(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Path -> id, of all files that rows name."""
    return {path: row_id for row_id, row in rows.items() for path in (row["image"], *row.get("copies", ()))}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from syncing the same album, by a lock of SQLite, which ends with the process.

    Raises:
        InputError: another process goes on syncing it.
    """
    with closing(sqlite3.connect(folder / LOCK, timeout=_PATIENCE, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise InputError(f"{folder}: cannot be locked ({error}); wait for the other sync of this album") from error
        yield
