"""Evaluating a model on a dataset: every row is encoded exactly once, over any number of processes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from math_hash.data import POOLED, Needs, Pairs, Split, load_batches
from math_hash.data.pairs import to_device
from math_hash.encoders.encoder import Encoder
from math_hash.encoders.features import Features
from math_hash.evaluation import chance_level, mean_average_precision
from math_hash.evaluation.exports import DIRECTIONS, write_export
from math_hash.evaluation.own_pair_recall import own_pair_recalls
from math_hash.hamming.codes import binarize, pack
from math_hash.models.model import HashModel
from math_hash.training.distributed import gather_rows, share_of


@dataclass
class RowCodes:
    """Bits, bool (m, k), of the images and the texts of m rows of a dataset, by row number."""

    rows: np.ndarray
    bits: Mapping[str, np.ndarray]

    def of(self, modality: str, rows: np.ndarray) -> np.ndarray:
        """Bits (len(rows), k) of "image" or "text", in the order of `rows`."""
        order = np.argsort(self.rows)
        return self.bits[modality][order[np.searchsorted(self.rows, rows, sorter=order)]]


def encode_rows(
    model: HashModel,
    dataset: Pairs,
    rows: np.ndarray,
    accelerator: Accelerator,
    *,
    batch_size: int,
    num_workers: int,
    progress: bool = False,
) -> RowCodes:
    """Encode both modalities of some rows, each once, without a gradient graph.

    Every process returns all codes. Memory holds one batch of pictures and the codes.
    """

    batches = _each_batch(model, dataset, rows, accelerator, partial(_hashed, model), batch_size, num_workers, progress)
    empty = np.empty((0, model.k_bits), bool)
    return RowCodes(
        rows, {modality: np.concatenate([empty, *map(binarize, parts)]) for modality, parts in batches.items()}
    )


def continuous_codes(
    model: HashModel,
    dataset: Pairs,
    rows: np.ndarray,
    accelerator: Accelerator,
    *,
    batch_size: int,
    num_workers: int,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Continuous codes of some rows, float32 (m, k) in (-1, 1), of "image" and "text"; on every process."""
    batches = _each_batch(model, dataset, rows, accelerator, partial(_hashed, model), batch_size, num_workers, progress)
    return {modality: np.concatenate(parts) for modality, parts in batches.items()}


def _hashed(model: HashModel, inputs: dict[str, Any]) -> dict[str, Tensor]:
    return {"image": model.hash_image(inputs["image"]), "text": model.hash_text(inputs["text"])}


def pooled(features: Features) -> Tensor:
    """The pooled vectors, (b, d)."""
    return features.pooled


def encoder_vectors(
    encoder: Encoder,
    dataset: Pairs,
    rows: np.ndarray,
    accelerator: Accelerator,
    *,
    vectors_of: Callable[[Features], Tensor] = pooled,
    needs: Needs = POOLED,
    batch_size: int,
    num_workers: int,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """The encoder's vectors of some rows, float32 (m, d), of "image" and "text"; on every process.

    Args:
        vectors_of: what is taken of a batch's features, (b, d).
        needs: what `vectors_of` uses.
    """

    def vectors(inputs: dict[str, Any]) -> dict[str, Tensor]:
        image, text = (to_device(inputs[name], accelerator.device) for name in ("image", "text"))
        features = {"image": encoder.encode_image(image, needs), "text": encoder.encode_text(text, needs)}
        return {modality: vectors_of(values) for modality, values in features.items()}

    batches = _each_batch(encoder, dataset, rows, accelerator, vectors, batch_size, num_workers, progress)
    return {modality: np.concatenate(parts) for modality, parts in batches.items()}


def _each_batch(
    module: nn.Module,
    dataset: Pairs,
    rows: np.ndarray,
    accelerator: Accelerator,
    encode: Callable[[dict[str, Any]], dict[str, Tensor]],
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> dict[str, list[np.ndarray]]:
    """`encode(inputs)` for every batch of rows, gathered on all processes; `module` is the model that it uses."""
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    shares = [share_of(batch, accelerator.process_index, accelerator.num_processes) for batch in batches]
    results: dict[str, list[np.ndarray]] = {"image": [], "text": []}
    was_training = module.training
    module.eval()
    loaded = load_batches(dataset.with_streams(("image", "text")), shares, num_workers, accelerator.device)
    with torch.inference_mode(), tqdm(total=len(rows), desc="encoding", unit="row", disable=not progress) as bar:
        for batch, inputs in zip(batches, loaded, strict=True):
            for modality, values in encode(inputs).items():
                results[modality].append(gather_rows(values.float(), len(batch)).cpu().numpy())
            bar.update(len(batch))
    module.train(was_training)
    return results


def mean_average_precisions(
    codes: RowCodes,
    labels: np.ndarray,
    query: np.ndarray,
    database: np.ndarray,
    directions: tuple[str, ...] = tuple(DIRECTIONS),
    ties: str = "index",
) -> dict[str, float]:
    """mAP over the whole database for each direction."""
    return {
        direction: mean_average_precision(
            pack(codes.of(DIRECTIONS[direction][0], query)),
            pack(codes.of(DIRECTIONS[direction][1], database)),
            labels[query],
            labels[database],
            k_bits=codes.bits["image"].shape[1],
            ties=ties,
        )
        for direction in directions
    }


def evaluate(
    model: HashModel,
    dataset: Pairs,
    split: Split,
    accelerator: Accelerator,
    *,
    batch_size: int,
    num_workers: int,
    ties: str = "index",
    directions: tuple[str, ...] = tuple(DIRECTIONS),
    unseen: tuple[int, ...] = (),
    progress: bool = False,
) -> tuple[RowCodes, dict[str, Any]]:
    """Encode queries and database and measure mAP in each direction.

    Args:
        unseen: columns of labels that were never trained on; for these, the results of `unseen_results` are added.

    Returns:
        The codes, and a dictionary: `mAP` over the whole database, `mAP_without_training_rows` over the rows that were
        not used in training (None if there are none, or only such rows), `floor` and `floor_without_training_rows`, the
        chance level of each, `own_pair_recall` of the queries among themselves, the sizes, and `seconds`.
    """
    start = time.perf_counter()
    rows = np.union1d(split.query, split.database)
    codes = encode_rows(
        model, dataset, rows, accelerator, batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    trained = np.isin(split.database, np.concatenate([split.train, split.val]))
    others = split.database[~trained] if trained.any() else split.database[:0]
    labels = dataset.folder.labels
    results = {
        "mAP": mean_average_precisions(codes, labels, split.query, split.database, directions, ties),
        "floor": chance_level(labels[split.query], labels[split.database]),
        "mAP_without_training_rows": mean_average_precisions(codes, labels, split.query, others, directions, ties)
        if len(others)
        else None,
        "floor_without_training_rows": chance_level(labels[split.query], labels[others]) if len(others) else None,
        "own_pair_recall": own_pair_recalls(
            *(pack(codes.of(modality, split.query)) for modality in ("image", "text")), k_bits=model.k_bits, ties=ties
        ),
        "queries": len(split.query),
        "database": len(split.database),
        "database_without_training_rows": len(others),
        "training_rows": len(split.train),
        "validation_rows": len(split.val),
        "training_rows_in_database": bool(trained.any()),
        "ties": ties,
        "normalizer": "lineage",
        "top_k": None,
        **(unseen_results(codes, labels, split, unseen, directions, ties) if unseen else {}),
        "seconds": round(time.perf_counter() - start, 2),
    }
    return codes, results


def unseen_results(
    codes: RowCodes,
    labels: np.ndarray,
    split: Split,
    unseen: tuple[int, ...],
    directions: tuple[str, ...],
    ties: str,
) -> dict[str, Any]:
    """mAP on labels that were never trained on (Sablayrolles et al. 2017: a disjoint set of classes).

    Queries and database are their rows with at least one of these labels; rows are relevant where they share one.

    Returns:
        `mAP_unseen` in each direction, its chance level `floor_unseen`, and the sizes.
    """
    labels = labels[:, unseen]
    query, database = (rows[labels[rows].any(axis=1)] for rows in (split.query, split.database))
    return {
        "mAP_unseen": mean_average_precisions(codes, labels, query, database, directions, ties),
        "floor_unseen": chance_level(labels[query], labels[database]),
        "queries_unseen": len(query),
        "database_unseen": len(database),
    }


def export_codes(path: Path, codes: RowCodes, labels: np.ndarray, split: Split) -> None:
    """Write the releases' export: float -1/+1 `q_img q_txt r_img r_txt`, labels `q_l r_l`.

    Raises:
        InputError: the file could not be written.
    """
    parts = {"q": split.query, "r": split.database}
    packed = {
        f"{letter}_{name}": pack(codes.of(modality, rows))
        for letter, rows in parts.items()
        for modality, name in (("image", "img"), ("text", "txt"))
    }
    write_export(path, packed, labels[split.query], labels[split.database], codes.bits["image"].shape[1])
