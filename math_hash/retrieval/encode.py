"""Encoding a collection: pictures or texts of any number to a folder of codes, in parts that a killed run keeps.

A codes folder holds `codes.npy`, packed codes uint8 (n, ceil(k / 8)); `rows.jsonl`, a line a row in the same order,
`{"id": ..., "metadata": {"image": ..., "text": ..., "label": [...]}}`; where asked for, `continuous.npy`, float16
(n, k); `rejected.tsv`, what could not be read and why; and `config.json`, which names model, bits and counts.
"""

import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from math_hash.data import read_dataset
from math_hash.data.collection import Columns, Record, read_collection
from math_hash.data.folder import inside_root
from math_hash.data.images import TarMember, open_image
from math_hash.errors import InputError
from math_hash.files import atomic_folder, read_json, require_sums, sums_of, write_bytes, write_text
from math_hash.hamming.codes import binarize, pack, unpack
from math_hash.models.model import CodeModel, kept_fingerprint

FORMAT = 1
SHARD = 4096  # rows that are kept at once


@dataclass(frozen=True)
class CodesFolder:
    """A folder that `encode_collection` wrote; `codes` is memory-mapped.

    Raises:
        InputError: it is missing or damaged.
    """

    path: Path
    config: dict[str, Any]
    codes: np.ndarray
    continuous: np.ndarray | None

    @classmethod
    def open(cls, path: str | Path) -> "CodesFolder":
        """Open it, and compare the sums of its files."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise InputError(
                f"{path}: no codes are there; make them with `math-hash encode MODEL INPUT --output {path}`"
            )
        config = read_json(path / "config.json")
        try:
            if config["format"] != FORMAT:
                raise ValueError(f"format {config['format']}, expected {FORMAT}")
            require_sums(path, config["sha256"])
            codes = np.load(path / "codes.npy", mmap_mode="r", allow_pickle=False)
            kept = path / "continuous.npy"
            continuous = np.load(kept, mmap_mode="r", allow_pickle=False) if kept.exists() else None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: damaged or of another version ({error}); encode again") from error
        return cls(path, config, codes, continuous)

    def keep_bits(self, bits: int) -> "CodesFolder":
        """These codes, cut to their most significant bits, as the model's `keep_bits` would have made them.

        Raises:
            InputError: there are fewer bits.
        """
        if not 1 <= bits <= self.config["k_bits"]:
            raise InputError(f"--bits {bits}: {self.path} holds {self.config['k_bits']} bits; choose from 1 to that")
        if bits == self.config["k_bits"]:
            return self
        order = self.config["bit_order"][:bits]
        blocks = [
            pack(unpack(self.codes[start : start + SHARD], self.config["k_bits"])[:, order])
            for start in range(0, len(self.codes), SHARD)
        ]
        changed = {"k_bits": bits, "model": kept_fingerprint(self.config["model"], bits)}
        changed["bit_order"] = list(range(bits))
        kept = None if self.continuous is None else self.continuous[:, order]
        return CodesFolder(self.path, {**self.config, **changed}, np.concatenate(blocks), kept)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and metadata, in the order of the codes."""
        with open(self.path / "rows.jsonl", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield row["id"], row["metadata"]


def encode_collection(
    model: CodeModel,
    source: str | Path,
    output: str | Path,
    *,
    modality: str | None = None,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 2,
    continuous: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> CodesFolder | None:
    """Encode a collection into a folder; a run that was killed goes on, and gives the same bytes.

    Args:
        model: as `load_model` gives it.
        source: a folder of pictures, a dataset's folder, a `.csv`, `.tsv` or `.jsonl` table, a `.txt` file with one
            text a line, a WebDataset `.tar` or a folder of them.
        output: the folder to write.
        modality: "image" or "text"; by default texts of a `.txt` file and pictures of all else.
        columns: of a table.
        image_root: what a table's image paths start from (its own folder by default).
        batch_size: rows encoded at once; codes do not depend on it beyond rounding.
        num_workers: processes that decode pictures.
        continuous: keep the continuous codes too, for reranking.
        accelerator: encodes on its device; each of its processes takes every n-th shard.
        progress: show a progress bar on the main process.

    Returns:
        The folder; None on all processes but the main one.

    Raises:
        InputError: `source` is nothing known or holds nothing usable, or `output` is there already.
    """
    source, output = Path(source), Path(output)
    accelerator = accelerator or Accelerator(cpu=model.device.type == "cpu")
    modality = modality or ("text" if source.suffix.lower() == ".txt" else "image")
    if output.exists():
        raise InputError(f"{output}: is there already; remove it, or name another folder")
    read = _reader(source, modality, columns or Columns(), image_root)
    parts = output.with_name(f".{output.name}.parts")
    job = {
        "format": FORMAT, "model": model.fingerprint, "source": str(source.absolute()), "modality": modality,
        "continuous": continuous, "batch_size": batch_size,
    }  # fmt: skip
    if accelerator.is_main_process:
        _begin(parts, job)
    accelerator.wait_for_everyone()
    shown = progress and accelerator.is_main_process
    root, records = read()
    total = sum(1 for _ in records) if shown else None
    hash_batch = model.hash_image if modality == "image" else model.hash_text
    prepare = _Pictures(Path(root), model.image_transform) if modality == "image" else _Texts(model)
    model = model.to(accelerator.device).eval()
    bar = tqdm(total=total, desc=f"encoding {modality}s", unit=modality, disable=not shown)
    work = _Work(read()[1], parts, batch_size, accelerator, bar)
    # the sampler hands lists of records to the workers, so the collection is never held as a whole
    loader = DataLoader(prepare, sampler=work, batch_size=None, num_workers=num_workers)
    shard = _Shard(model.k_bits)
    for batch, kept, inputs, rejected in loader:
        codes = None
        if kept:
            with torch.inference_mode():
                codes = hash_batch(inputs.to(accelerator.device)).float().cpu().numpy()
        shard.take(kept, codes, rejected)
        bar.update(len(kept) + len(rejected))
        if batch.is_last:
            shard.write(parts, batch, continuous)
            shard = _Shard(model.k_bits)
    bar.close()
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    about = {
        "k_bits": model.k_bits, "method": model.method, **job, "root": os.path.abspath(root),
        "bit_order": model.kept_bit_order,
    }  # fmt: skip
    _join(parts, [_shard_path(parts, number) for number in range(work.shards)], output, about)
    return CodesFolder.open(output)


def _reader(source: Path, modality: str, columns: Columns, image_root: str | Path | None):
    """A function that reads the collection from its beginning: what image paths start from, and the records."""
    if modality not in ("image", "text"):
        raise InputError(f"--modality {modality}: expected image or text")
    columns = replace(columns, needed=modality)
    if (source / "index.mat").is_file():
        folder = read_dataset(source, image_root=image_root or "", allow_unlabelled=True)

        def read():
            records = (_dataset_record(folder, row) for row in range(len(folder)))
            return folder.image_root, map(columns.checked, records)

    else:

        def read():
            root, records = read_collection(source, columns)
            return image_root or root, records

    return read


def _dataset_record(folder, row: int) -> Record:
    names = [name for name, has in zip(folder.label_names, folder.labels[row], strict=True) if has]
    member = (-1, -1) if folder.members is None else tuple(folder.members[row].tolist())
    texts = [text for text in folder.texts[row] if text]
    return Record(f"{folder.path}, row {row}", folder.images[row], folder.images[row], texts, names, member)


def _begin(parts: Path, job: dict[str, Any]) -> None:
    """Go on where the same job was cut off; start anew where it is another one."""
    try:
        if (parts / "job.json").exists() and read_json(parts / "job.json") == job:
            return
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{parts}: cannot be written ({error.strerror}); choose another --output") from error
    write_text(parts / "job.json", json.dumps(job, indent=2) + "\n")


class Batch(NamedTuple):
    """Records of one shard that are encoded together."""

    shard: int
    digest: str  # of all records of the shard
    is_last: bool
    records: list[Record]


@dataclass
class _Work:
    """Batches to encode: of this process's shards, those that are not on the disk yet as they are now."""

    records: Iterator[Record]
    parts: Path
    batch_size: int
    accelerator: Accelerator
    bar: tqdm
    shards: int = 0  # of all processes; known when all was read

    def __iter__(self) -> Iterator[Batch]:
        for number, records in enumerate(_cut(self.records, SHARD)):
            self.shards = number + 1
            if number % self.accelerator.num_processes != self.accelerator.process_index:
                continue
            digest, kept = hashlib.sha256(), _shard_path(self.parts, number)
            for record in records:
                digest.update(repr(record).encode(errors="surrogateescape"))
            if kept.exists() and read_json(kept).get("records") == digest.hexdigest():
                self.bar.update(len(records))
                continue
            batches = list(_cut(records, self.batch_size))
            for place, batch in enumerate(batches, start=1):
                yield Batch(number, digest.hexdigest(), place == len(batches), batch)


class _Pictures(Dataset):
    """Decodes lists of records, in a data loader's workers."""

    def __init__(self, root: Path, transform):
        self.root, self.transform = root, transform

    def __getitem__(self, batch: Batch):
        kept, pixels, rejected = [], [], []
        for record in batch.records:
            try:
                if record.problem:
                    raise InputError(record.problem)
                pixels.append(self.transform(open_image(self._file(record))))
                kept.append(_row(record))
            except InputError as error:
                rejected.append((record.where, str(error)))
        return batch._replace(records=[]), kept, torch.stack(pixels) if pixels else None, rejected

    def _file(self, record: Record):
        if record.content is not None:
            return io.BytesIO(record.content)
        path = inside_root(self.root, record.image)
        return TarMember.of(path, *record.member) if record.member[0] >= 0 else path


class _Texts(Dataset):
    """Tokenizes lists of records; several texts of a row are joined."""

    def __init__(self, model):
        self.tokenize, self.max_words = model.tokenize, model.max_words

    def __getitem__(self, batch: Batch):
        rejected = [(record.where, record.problem) for record in batch.records if record.problem]
        kept = [_row(record) for record in batch.records if not record.problem]
        texts = [row[1]["text"] for row in kept]
        inputs = self.tokenize(texts, self.max_words) if texts else None
        return batch._replace(records=[]), kept, inputs, rejected


def _row(record: Record) -> tuple[str, dict[str, Any]]:
    about = dict(record.others)
    for name, value in (("image", record.image), ("text", " ".join(record.texts)), ("label", record.labels)):
        if value:
            about[name] = value
    if record.member[0] >= 0:
        about["member"] = list(record.member)
    return record.id or record.image or record.where, about


class _Shard:
    """Rows of one shard as they are encoded, then its files; the `.json` comes last and says that it is whole."""

    def __init__(self, k_bits: int):
        self.rows, self.rejected = [], []
        self.codes = [np.empty((0, k_bits), np.float32)]

    def take(self, rows, codes: np.ndarray | None, rejected) -> None:
        self.rows += rows
        self.rejected += rejected
        if codes is not None:
            self.codes.append(codes)

    def write(self, parts: Path, batch: Batch, continuous: bool) -> None:
        codes, path = np.concatenate(self.codes), _shard_path(parts, batch.shard)
        lines = [json.dumps({"id": i, "metadata": about}, ensure_ascii=False) + "\n" for i, about in self.rows]
        write_bytes(path.with_suffix(".codes"), pack(binarize(codes)).tobytes())
        if continuous:
            write_bytes(path.with_suffix(".continuous"), codes.astype(np.float16).tobytes())
        write_text(path.with_suffix(".jsonl"), "".join(lines))
        flat = (f"{' '.join(where.split())}\t{' '.join(reason.split())}\n" for where, reason in self.rejected)
        write_text(path.with_suffix(".tsv"), "".join(flat))
        facts = {"rows": len(self.rows), "rejected": len(self.rejected), "records": batch.digest}
        write_text(path, json.dumps(facts))


def _shard_path(parts: Path, number: int) -> Path:
    return parts / f"{number:08d}.json"


def _join(parts: Path, shards: list[Path], output: Path, about: dict[str, Any]) -> None:
    """Put the shards together, in order, a block at a time."""
    counts = [read_json(path) for path in shards]
    rows, width = sum(count["rows"] for count in counts), -(-about["k_bits"] // 8)
    if not rows:
        raise InputError(f"{about['source']}: nothing of it could be encoded; {_first_rejected(shards)}")
    arrays = {"codes": (np.dtype(np.uint8), width)}
    if about["continuous"]:
        arrays["continuous"] = (np.dtype(np.float16), about["k_bits"])
    with atomic_folder(output) as folder:
        for name, (dtype, columns) in arrays.items():
            with open(folder / f"{name}.npy", "wb") as file:
                head = {"descr": dtype.str, "fortran_order": False, "shape": (rows, columns)}
                np.lib.format.write_array_header_1_0(file, head)
                _append(file, [path.with_suffix(f".{name}") for path in shards])
        for name, ending in (("rows.jsonl", ".jsonl"), ("rejected.tsv", ".tsv")):
            with open(folder / name, "wb") as file:
                _append(file, [path.with_suffix(ending) for path in shards])
        counted = {"count": rows, "rejected": sum(count["rejected"] for count in counts)}
        facts = {**about, **counted, "sha256": sums_of(folder)}
        write_text(folder / "config.json", json.dumps(facts, indent=2) + "\n")
    shutil.rmtree(parts, ignore_errors=True)


def _append(file, paths: list[Path]) -> None:
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


def _cut(items, size: int) -> Iterator[list]:
    items = iter(items)
    while block := list(itertools.islice(items, size)):
        yield block
