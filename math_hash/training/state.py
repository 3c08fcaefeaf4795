"""The state that the epochs of a run share, from the start or from a checkpoint."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from math_hash.config import Config
from math_hash.data import Pairs
from math_hash.errors import InputError
from math_hash.methods import Method, TrainingSet
from math_hash.models.model import HashModel
from math_hash.progress import is_watched
from math_hash.training.bert_adam import BertAdam
from math_hash.training.code_bank import CodeBank
from math_hash.training.evaluate import encoder_vectors
from math_hash.training.optimizers import make_optimizers
from math_hash.training.run_folder import Run
from math_hash.training.setup import Data
from math_hash.training.step import TrainingStep


def turns_of(model: HashModel, config: Config) -> tuple[tuple[str, ...], ...]:
    """The streams that learn together, one tuple per pass over the training rows."""
    return (model.head.streams,) if config.joint_update else model.head.turns


@dataclass
class Training:
    """The state that the epochs of a run share."""

    config: Config
    accelerator: Accelerator
    data: Data
    dataset: Pairs
    model: HashModel
    step_module: TrainingStep
    step: Any  # step_module, wrapped by accelerate
    optimizers: list[Optimizer]
    steps_per_epoch: int
    turns: tuple[tuple[str, ...], ...]
    done: int
    best: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def rates(self) -> tuple[float, float | None]:
        """Learning rates of the next step: the heads' and, if it is trained, the encoder's."""
        groups = self.optimizers[0].param_groups
        learns = any(p.requires_grad for p in self.model.encoder.parameter_groups().pretrained)
        return BertAdam.rate(groups[0]), BertAdam.rate(groups[1]) if learns else None

    def state(self, epoch: int, best: dict[str, Any]) -> dict[str, Any]:
        """Everything that resuming needs."""
        main, *others = self.optimizers
        scaler = self.accelerator.scaler
        return {
            "epoch": epoch,
            "best": best,
            "rows_sum": self.data.rows_sum,
            "model": self.model.state_dict(),
            "bank": self.step_module.bank.state_dict(),
            "optimizer": main.state_dict(),
            "other_optimizers": [optimizer.state_dict() for optimizer in others],
            "scaler": scaler.state_dict() if scaler else None,
        }

    def restore(self, state: dict[str, Any], run: Run) -> None:
        """Restore the state at the end of a finished epoch.

        Raises:
            InputError: the state belongs to other rows or another model.
        """
        if state.get("rows_sum", self.data.rows_sum) != self.data.rows_sum:  # earlier versions did not keep it
            raise InputError(
                f"`resume` {run.path}: its checkpoint was trained on other rows; restore the dataset and the pictures "
                "that could be read, or start a new run"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.step_module.bank.load_state_dict(state["bank"])
            of_others = state.get("other_optimizers", [])
            for optimizer, values in zip(self.optimizers, [state["optimizer"], *of_others], strict=True):
                optimizer.load_state_dict(values)
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"`resume` {run.path}: its checkpoint belongs to another model ({reason})") from error
        self.done, self.best = state["epoch"], state["best"]
        self.history = [record for record in run.read_metrics() if record["epoch"] <= self.done]


def prepare_training(config: Config, accelerator: Accelerator, data: Data, model: HashModel) -> Training:
    """Make step, banks and optimizers, let the method prepare itself, and restore what a resumed run had reached.

    Raises:
        InputError: the checkpoint of a run to resume is damaged or belongs to other rows or another model.
    """
    labels = torch.from_numpy(data.folder.labels[data.split.train]).to(accelerator.device)
    if type(model.head).prepare is not Method.prepare:
        model.to(accelerator.device)
        image, text = training_vectors(config, accelerator, data, model)
        model.head.prepare(TrainingSet(image.to(accelerator.device), text.to(accelerator.device), labels))
    step = TrainingStep(model, CodeBank(model.head.banks, labels, config.seed))
    turns = turns_of(model, config)
    batches = -(-len(data.split.train) // config.batch_size) * len(turns)
    updates = -(-batches // config.gradient_accumulation)
    optimizers = make_optimizers(model, config, total_steps=config.epochs * updates)
    prepared, *optimizers = accelerator.prepare(step, *optimizers)
    training = Training(
        config, accelerator, data, data.pairs(model), model, step, prepared, optimizers, batches, turns,
        done=0, best={"score": -math.inf, "epoch": None}, history=[],
    )  # fmt: skip
    if config.resume and (state := Run(config.resume).load_checkpoint()):
        training.restore(state, Run(config.resume))
    return training


def training_vectors(config: Config, accelerator: Accelerator, data: Data, model: HashModel) -> tuple[Tensor, Tensor]:
    """The encoder's pooled vectors of the training rows, images' and texts', float32 (n, d) each."""
    vectors = encoder_vectors(
        model.encoder,
        data.pairs(model),
        data.split.train,
        accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        progress=shows_progress(accelerator),
    )
    return torch.from_numpy(vectors["image"]), torch.from_numpy(vectors["text"])


def shows_progress(accelerator: Accelerator) -> bool:
    """Whether this process draws progress bars: the main one, on a terminal or in a notebook."""
    return accelerator.is_main_process and is_watched()
