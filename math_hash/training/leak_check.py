"""The leak check of a trained model, on the queries of a dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from math_hash.data import load_batches
from math_hash.evaluation.leak_check import Encode, LeakReport, leak_check
from math_hash.methods.method import other
from math_hash.models.model import HashModel
from math_hash.training.code_bank import CodeBank
from math_hash.training.setup import Data
from math_hash.training.step import TrainingStep


def query_codes(model: HashModel, data: Data, modality: str) -> Encode:
    """What `leak_check` takes, for a model's codes of images or of texts.

    Each batch is presented to the model as in a training step, with its partners and labels, and its partners are
    hashed, before its own codes are taken: what a method keeps of these is then in its codes.

    Args:
        model: in evaluation mode.
        data: of its rows, with the labels that the model was trained on.
        modality: of the queries, "image" or "text".
    """
    pairs, partner = data.pairs(model), other(modality)
    streams = {name: pairs.with_streams((name,)) for name in (partner, "label", modality)}
    hash_one = {"image": model.hash_image, "text": model.hash_text}
    labels = torch.from_numpy(data.folder.labels[data.split.query]).to(model.device)
    step = TrainingStep(model, CodeBank(model.head.banks, labels, seed=0).to(model.device))

    def encode(queries: np.ndarray, partners: np.ndarray, labels: np.ndarray) -> Tensor:
        inputs: dict[str, Any] = {}
        for (name, stream), rows in zip(streams.items(), (partners, labels, queries), strict=True):
            batch = next(load_batches(stream, [rows], device=model.device))
            inputs |= {key: value for key, value in batch.items() if key != "label" or name == "label"}
        with torch.inference_mode():
            if model.head.trained_by_gradient:
                for turn in model.head.turns:
                    step.outputs(inputs, len(queries), turn)
            hash_one[partner](inputs[partner])
            return hash_one[modality](inputs[modality]).float()

    return encode


def check_model(
    model: HashModel, data: Data, rows: Sequence[int] | np.ndarray, batch_size: int
) -> dict[str, LeakReport]:
    """The leak check of a model's codes of "image" and "text" queries; rows as numbers of the dataset.

    Raises:
        InputError: as `leak_check`, or a picture cannot be read.
    """
    model.eval()
    return {
        modality: leak_check(query_codes(model, data, modality), rows, batch_size=batch_size)
        for modality in ("image", "text")
    }
