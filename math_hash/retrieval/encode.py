"""Encoding a collection of any size into a folder of codes, shard by shard."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from math_hash.data.images import open_image
from math_hash.data.records import Columns, Record
from math_hash.data.remote import is_remote
from math_hash.errors import InputError, import_extra
from math_hash.hamming.codes import binarize, pack
from math_hash.hamming.int8 import as_int8
from math_hash.models.code_model import CodeModel, Modality
from math_hash.retrieval.codes_folder import FORMAT, CodesFolder
from math_hash.retrieval.codes_parquet import write_parquet
from math_hash.retrieval.shards import Batch, Job, PendingBatches, Rejected, Row, Shard, ShardFolder, held_alone
from math_hash.retrieval.sources import Collection, image_file, likely_modality, open_collection, picture_stamp


def encode_collection(
    model: CodeModel,
    source: str | Path,
    output: str | Path,
    *,
    modality: Modality | None = None,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 2,
    continuous: bool = False,
    vectors: bool = False,
    parquet: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> CodesFolder | None:
    """Encode a collection into a folder of codes; a run that was killed continues, and gives the same bytes.

    Args:
        model: as `load_model` gives it.
        source: a folder of pictures, a dataset's folder, a `.csv`, `.tsv` or `.jsonl` table, a `.txt` file with one
            text per line, a WebDataset `.tar` or a folder of them, also as a URL, or embeddings (docs/features.md).
        output: the folder to write.
        modality: "image" or "text"; by default texts of a `.txt` file and pictures of anything else that has some.
        columns, image_root: of a table or of parquet files; what its image paths start from (its own folder).
        batch_size: rows encoded at once; codes do not depend on it beyond rounding.
        num_workers: processes that decode pictures.
        continuous, vectors: for reranking, keep the continuous codes too, or the encoder's pooled vectors as int8.
        parquet: write ids, codes and metadata as `codes.parquet` too.
        accelerator: encodes on its device; each of its n processes encodes every n-th shard.
        progress: show a progress bar on the main process.

    Returns:
        The folder; None on all processes but the main one.

    Raises:
        InputError: `source` is of no known form or holds nothing usable, or `output` is there or being written.
    """
    output = Path(output)
    shards = ShardFolder(output.with_name(f".{output.name}.parts"))
    if output.exists():
        if (output / "config.json").is_file():  # it was put together by a call that was killed right after
            shards.remove()
        raise InputError(f"{output}: is there already; remove it, or name another folder")
    if parquet:
        import_extra("pyarrow", "parquet", "`parquet`")
    if vectors and not model.gives_vectors:
        raise InputError("`vectors`: this model's format gives codes only; use the run that it was exported from")
    accelerator = accelerator or Accelerator(cpu=model.device.type == "cpu")
    modality = modality or likely_modality(source)
    collection = open_collection(model, source, modality, columns or Columns(), image_root)
    name, root = str(source if is_remote(source) else Path(source).absolute()), os.path.abspath(collection.root)
    job = Job(FORMAT, model.fingerprint, model.precision, name, root, modality, continuous, vectors, batch_size)
    with held_alone(shards.path) if accelerator.is_main_process else nullcontext():
        count = _encode_shards(model, collection, job, shards, accelerator, num_workers, progress)
        if not accelerator.is_main_process:
            return None
        config = {"k_bits": model.k_bits, "method": model.method, "bit_order": model.kept_bit_order}
        shards.join(count, job, output, config, write_parquet if parquet else None)
    return CodesFolder.open(output)


def _encode_shards(
    model: CodeModel,
    collection: "Collection",
    job: Job,
    shards: ShardFolder,
    accelerator: Accelerator,
    num_workers: int,
    progress: bool,
) -> int:
    """Encode and write this process's shards, unless they are on the disk. Returns the number of all shards."""
    if accelerator.is_main_process:
        shards.begin(job)
    accelerator.wait_for_everyone()
    shown = progress and accelerator.is_main_process
    total = collection.count() if shown else None
    model = model.to(accelerator.device).eval()
    inputs: _Pictures | _Texts | _Vectors
    if collection.embeddings:
        inputs, num_workers = _Vectors(), 0
    elif job.modality == "image":
        inputs = _Pictures(collection.root, model.image_transform)
    else:
        inputs = _Texts(model.tokenize, model.max_words)
    bar = tqdm(total=total, desc=f"encoding {job.modality}s", unit=job.modality, disable=not shown)
    stamp = partial(picture_stamp, collection.root, job.modality)
    processes = accelerator.num_processes, accelerator.process_index
    pending = PendingBatches(collection.records(), stamp, shards, job.batch_size, *processes, bar.update)
    # the sampler hands lists of records to the workers, so the collection is never held as a whole
    loader = DataLoader(inputs, sampler=pending, batch_size=None, num_workers=num_workers, collate_fn=_unchanged)
    shard = Shard(job)
    for prepared in loader:
        arrays = {}
        if prepared.inputs is not None:
            with torch.inference_mode():
                on_device = prepared.inputs.to(accelerator.device)
                arrays = _encoded(model, job, on_device, collection.embeddings is not None)
        shard.add(prepared.rows, arrays, prepared.rejected)
        bar.update(len(prepared.rows) + len(prepared.rejected))
        if prepared.batch.is_last:
            shard.write(shards, prepared.batch)
            shard = Shard(job)
    bar.close()
    accelerator.wait_for_everyone()
    return pending.shards


def _encoded(model: CodeModel, job: Job, inputs: Tensor, are_embeddings: bool) -> dict[str, np.ndarray]:
    """The job's arrays of a batch."""
    arrays = {}
    if are_embeddings:
        codes, vectors = model.hash_vectors(inputs, job.modality), F.normalize(inputs, dim=1)
    elif job.vectors:
        codes, vectors = model.hash_with_vectors(job.modality, inputs)
    else:
        codes = model.hash_image(inputs) if job.modality == "image" else model.hash_text(inputs)
    continuous = codes.float().cpu().numpy()
    arrays["codes"] = pack(binarize(continuous))
    if job.continuous:
        arrays["continuous"] = continuous.astype(np.float16)
    if job.vectors:
        arrays["vectors"] = as_int8(vectors.cpu().numpy())
    return arrays


class _Prepared(NamedTuple):
    """A batch that is ready for the model."""

    batch: Batch  # without its records
    rows: list[Row]
    inputs: Tensor | None  # pixels or token ids, (rows, ...); None without rows
    rejected: list[Rejected]


class _Pictures(Dataset[_Prepared]):
    """Decodes batches of records, in a data loader's workers."""

    def __init__(self, root: Path, transform: Callable[[Image.Image], Tensor]):
        self.root, self.transform = root, transform

    def __getitem__(self, batch: Batch) -> _Prepared:
        rows: list[Row] = []
        pixels: list[Tensor] = []
        rejected: list[Rejected] = []
        for record in batch.records:
            try:
                if record.problem:
                    raise InputError(record.problem)
                pixels.append(self.transform(open_image(image_file(self.root, record))))
                rows.append(_row(record))
            except InputError as error:
                rejected.append((record.where, str(error)))
        return _Prepared(batch._replace(records=[]), rows, torch.stack(pixels) if pixels else None, rejected)


class _Texts(Dataset[_Prepared]):
    """Tokenizes batches of records; several texts of a row are joined."""

    def __init__(self, tokenize: Callable[[list[str], int], Tensor], max_words: int):
        self.tokenize, self.max_words = tokenize, max_words

    def __getitem__(self, batch: Batch) -> _Prepared:
        rejected = [(record.where, record.problem) for record in batch.records if record.problem]
        rows = [_row(record) for record in batch.records if not record.problem]
        texts = [metadata["text"] for _, metadata in rows]
        inputs = self.tokenize(texts, self.max_words) if texts else None
        return _Prepared(batch._replace(records=[]), rows, inputs, rejected)


def _unchanged(prepared: Any) -> Any:
    return prepared


class _Vectors(Dataset[_Prepared]):
    """Stacks the vectors of batches of records."""

    def __getitem__(self, batch: Batch) -> _Prepared:
        rejected = [(record.where, record.problem) for record in batch.records if record.problem]
        usable = [record for record in batch.records if not record.problem]
        vectors = [record.vector for record in usable if record.vector is not None]
        inputs = torch.from_numpy(np.stack(vectors)) if vectors else None
        return _Prepared(batch._replace(records=[]), [_row(record) for record in usable], inputs, rejected)


def _row(record: Record) -> Row:
    return record.id or record.image or record.where, record.metadata()
