"""One training step."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from math_hash.encoders import Features
from math_hash.models.model import HashModel
from math_hash.training.code_bank import CodeBank
from math_hash.training.distributed import gather_tree


class TrainingStep(nn.Module):
    """One forward pass over a batch: encode, write the banks, take the loss."""

    def __init__(self, model: HashModel, bank: CodeBank):
        super().__init__()
        self.model, self.bank = model, bank

    def forward(self, inputs: dict[str, Any], positions: Tensor, turn: tuple[str, ...]) -> dict[str, Tensor]:
        """The weighted loss terms of a batch.

        Args:
            inputs: this process's share of the batch, as the dataset returns it.
            positions: int64 (b,), positions in the bank of all rows of the batch.
            turn: the streams that learn.
        """
        head, bank = self.model.head, self.bank
        outputs = self.outputs(inputs, len(positions), turn)
        with torch.autocast(positions.device.type, enabled=False):
            bank.write(positions, head.bank_codes(outputs))
            return head.loss_terms(outputs, bank.codes, bank.labels, positions)

    def outputs(self, inputs: dict[str, Any], rows: int, turn: tuple[str, ...]) -> Any:
        """The method's outputs for a batch of `rows` rows, of which `inputs` is this process's share."""
        features = {stream: self._features(stream, inputs, rows) for stream in turn}
        return gather_tree(self.model.head.outputs(features, inputs["label"]), rows)

    def _features(self, stream: str, inputs: dict[str, Any], rows: int) -> Features:
        encoder, needs = self.model.encoder, self.model.head.needs
        if stream == "image":
            features = encoder.encode_image(inputs["image"], needs)
        elif stream == "text":
            features = encoder.encode_text(inputs["text"], needs)
        elif needs.label_text:
            features = encoder.encode_text(inputs["label_text"], needs)
        else:
            return Features(None, inputs["label"].to(self.bank.get_buffer(self.bank.names[0]).dtype))
        return replace(features, batch=gather_tree(features.pooled, rows)) if needs.batch else features
