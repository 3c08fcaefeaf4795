"""Shards: parts of a collection that are encoded and written one after another, so that a killed run can continue.

They lie in a folder beside the output. A shard's `.json` file is written last and says that its other files are
complete; it also holds a digest of the records it was made from, and of the sizes and times of their pictures' files,
so that a changed collection is noticed.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from math_hash.data.records import Record
from math_hash.errors import InputError
from math_hash.files import atomic_folder, read_json, sums_of, write_bytes, write_text
from math_hash.models.code_model import Modality

SHARD_ROWS = 4096  # rows that are written at once

Row = tuple[str, dict[str, Any]]  # id, metadata
Rejected = tuple[str, str]  # where, why
_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """Everything that the bytes of the shards depend on, besides the records.

    Attributes:
        format: of the folder of codes.
        model: fingerprint.
        precision: in which the model encodes.
        source: absolute path of the collection.
        root: absolute path of the folder that image paths start from.
        modality: "image" or "text".
        continuous: continuous codes are kept too.
        vectors: the encoder's vectors are kept too, as int8.
        batch_size: rows encoded at once.
    """

    format: int
    model: str
    precision: str
    source: str
    root: str
    modality: Modality
    continuous: bool
    vectors: bool
    batch_size: int

    @property
    def arrays(self) -> dict[str, np.dtype]:
        """The arrays that are kept of each row: names of their files, and types of their values."""
        arrays: dict[str, np.dtype] = {"codes": np.dtype(np.uint8)}
        if self.continuous:
            arrays["continuous"] = np.dtype(np.float16)
        if self.vectors:
            arrays["vectors"] = np.dtype(np.int8)
        return arrays


class Batch(NamedTuple):
    """Records of one shard that are encoded together."""

    shard: int
    digest: str  # of all records of the shard
    is_last: bool
    records: list[Record]


class ShardFolder:
    """The folder that holds the shards of a job until all of them are complete."""

    def __init__(self, path: Path):
        self.path = path

    def begin(self, job: Job) -> None:
        """Keep the shards of the same job; remove those of another one. The folder is there, see `held_alone`.

        Raises:
            InputError: the folder cannot be written.
        """
        described = self.path / "job.json"
        try:
            if described.exists() and read_json(described) == asdict(job):
                return
            for left in self.path.iterdir():
                left.unlink()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another `output`") from error
        write_text(described, json.dumps(asdict(job), indent=2) + "\n")

    def shard(self, number: int) -> Path:
        """The `.json` file of a shard; its other files have the same stem."""
        return self.path / f"{number:08d}.json"

    def join(
        self, count: int, job: Job, output: Path, config: dict[str, Any],
        add_file: Callable[[Path, dict], None] | None = None,
    ) -> None:  # fmt: skip
        """Put the first `count` shards together, in order, as a folder of codes, and remove them.

        Args:
            job: what made them.
            config: of the folder of codes, besides the job's; counts and SHA-256 sums are added.
            add_file: called with the folder and the complete `config`, to add a form of the codes.

        Raises:
            InputError: no row could be encoded, or `output` cannot be written.
        """
        shards = [self.shard(number) for number in range(count)]
        counts = [read_json(path) for path in shards]
        rows, rejected = (sum(each[name] for each in counts) for name in ("rows", "rejected"))
        if not rows:
            raise InputError(f"{job.source}: nothing of it could be encoded; {_first_rejected(shards)}")
        with atomic_folder(output) as folder:
            for name, dtype in job.arrays.items():
                _join_array(folder / f"{name}.npy", [path.with_suffix(f".{name}") for path in shards], dtype, rows)
            for name, ending in (("rows.jsonl", ".jsonl"), ("rejected.tsv", ".tsv")):
                with open(folder / name, "wb") as file:
                    _append(file, [path.with_suffix(ending) for path in shards])
            complete = {**asdict(job), **config}
            if add_file:
                add_file(folder, complete)
            complete |= {"count": rows, "rejected": rejected, "sha256": sums_of(folder)}
            write_text(folder / "config.json", json.dumps(complete, indent=2) + "\n")
        self.remove()

    def remove(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass
class PendingBatches:
    """The batches that one process still has to encode: of every n-th shard, unless it is on the disk already.

    Attributes:
        records: the whole collection.
        stamp: called with a record for what changes when the file of its picture does.
        folder: where the shards lie.
        batch_size: rows per batch.
        processes: how many share the work.
        process: number of this one.
        on_skipped: called with the number of rows of each shard that is on the disk already.
        shards: number of shards of all processes; known once all batches were read.
    """

    records: Iterator[Record]
    stamp: Callable[[Record], bytes]
    folder: ShardFolder
    batch_size: int
    processes: int
    process: int
    on_skipped: Callable[[int], object]
    shards: int = 0

    def __iter__(self) -> Iterator[Batch]:
        for number, records in enumerate(_cut(self.records, SHARD_ROWS)):
            self.shards = number + 1
            if number % self.processes != self.process:
                continue
            digest, written = hashlib.sha256(), self.folder.shard(number)
            for record in records:
                digest.update(repr(record).encode(errors="surrogateescape"))
                digest.update(record.content or b"")
                if record.vector is not None:
                    digest.update(record.vector.data)
                digest.update(self.stamp(record))
            if written.exists() and read_json(written).get("records") == digest.hexdigest():
                self.on_skipped(len(records))
                continue
            batches = list(_cut(records, self.batch_size))
            for place, batch in enumerate(batches, start=1):
                yield Batch(number, digest.hexdigest(), place == len(batches), batch)


class Shard:
    """The rows of one shard, collected as they are encoded, then written."""

    def __init__(self, job: Job):
        self.rows: list[Row] = []
        self.rejected: list[Rejected] = []
        self.arrays: dict[str, list[bytes]] = {name: [] for name in job.arrays}

    def add(self, rows: Sequence[Row], arrays: Mapping[str, np.ndarray], rejected: Sequence[Rejected]) -> None:
        """Add a batch: its rows, the job's arrays of them, (b, ...) each, and what could not be read."""
        self.rows += rows
        self.rejected += rejected
        for name, values in arrays.items():
            self.arrays[name].append(values.tobytes())

    def write(self, folder: ShardFolder, batch: Batch) -> None:
        """Write the files of the shard that `batch` is the last one of."""
        path = folder.shard(batch.shard)
        lines = [
            json.dumps({"id": row_id, "metadata": metadata}, ensure_ascii=False) + "\n"
            for row_id, metadata in self.rows
        ]
        for name, parts in self.arrays.items():
            write_bytes(path.with_suffix(f".{name}"), b"".join(parts))
        write_text(path.with_suffix(".jsonl"), "".join(lines))
        flat = (f"{' '.join(where.split())}\t{' '.join(reason.split())}\n" for where, reason in self.rejected)
        write_text(path.with_suffix(".tsv"), "".join(flat))
        counts = {"rows": len(self.rows), "rejected": len(self.rejected), "records": batch.digest}
        write_text(path, json.dumps(counts))


@contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other processes out of the block for it; some file systems cannot.

    Raises:
        InputError: another process is in the block, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another `output`") from error
    with ExitStack() as stack:
        try:
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed, or the process ends
        except BlockingIOError as error:
            raise InputError(f"{folder}: another process writes it; wait for that, or name another `output`") from error
        except (ImportError, OSError):  # Windows, and file systems without locks
            pass
        yield


def _join_array(path: Path, parts: list[Path], dtype: np.dtype, rows: int) -> None:
    width = sum(part.stat().st_size for part in parts) // (rows * dtype.itemsize)
    with open(path, "wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, header)
        _append(file, parts)


def _append(file: BinaryIO, paths: list[Path]) -> None:
    for path in paths:
        with open(path, "rb") as part:
            shutil.copyfileobj(part, file, 1 << 20)
    file.flush()
    os.fsync(file.fileno())


def _first_rejected(shards: list[Path]) -> str:
    for path in shards:
        if reason := path.with_suffix(".tsv").read_text():
            return reason.split("\n")[0].replace("\t", ": ")
    return "it is empty"


def _cut(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    items = iter(items)
    while block := list(itertools.islice(items, size)):
        yield block
