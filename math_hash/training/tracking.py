"""Logging of losses, rates and mAP: the terminal, `train.log`, and the trackers that `--tracker` names."""

import logging
from dataclasses import asdict
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import (
    GeneralTracker,
    MLflowTracker,
    TensorBoardTracker,
    WandBTracker,
    get_available_trackers,
)

from math_hash.config import Config
from math_hash.errors import InputError
from math_hash.training.run_folder import Run

PROJECT = "math_hash"
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def require_trackers(config: Config) -> None:
    """Check that the packages of all chosen trackers are installed.

    Raises:
        InputError: one is not.
    """
    installed = {str(tracker.value) for tracker in get_available_trackers()}
    for name in config.tracker:
        if name not in installed:
            raise InputError(f"`tracker` {name}: is not installed; pip install {_PACKAGES[name]}, or leave it out")


class Log:
    """The one place that logs a run. Does nothing on processes other than the main one.

    Args:
        accelerator: holds the trackers.
        steps: steps per epoch; records are logged at the last step of their epoch.
        done: number of epochs finished before; what an interrupted run logged after them is dropped.
    """

    def __init__(self, accelerator: Accelerator, config: Config, run: Run, steps: int, done: int):
        self.accelerator, self.config, self.steps = accelerator, config, steps
        self.logger = run.start_logging() if accelerator.is_main_process else logging.getLogger("math_hash.silent")
        self.logger.disabled = not accelerator.is_main_process
        accelerator.log_with = [_tracker(name, run, done * steps) for name in config.tracker]
        accelerator.init_trackers(PROJECT)
        if accelerator.is_main_process:
            settings = {name: _plain(value) for name, value in asdict(config).items()}
            for tracker in accelerator.trackers:
                if tracker.name != "tensorboard":  # which would write a second folder of events for them
                    tracker.store_init_configuration(settings)

    def line(self, text: str, *values: Any) -> None:
        """Log one line, formatted as by `logging`."""
        self.logger.info(text, *values)

    def epoch(self, record: dict[str, Any]) -> None:
        """Log the record of one epoch."""
        if not self.accelerator.is_main_process:
            return
        scalars = {f"loss/{name}": value for name, value in {**record["losses"], "total": record["loss"]}.items()}
        for name in ("lr", "clip_lr", "samples_per_second"):
            if record[name] is not None:
                scalars[name] = record[name]
        precisions = record.get("mAP", {})
        scalars |= {f"mAP/{direction}": value for direction, value in precisions.items()}
        for tracker in self.accelerator.trackers:
            renamed = {name.replace("->", " to "): value for name, value in scalars.items()}  # MLflow allows no >
            tracker.log(renamed if tracker.name == "mlflow" else scalars, step=record["epoch"] * self.steps)
        self.line(
            "epoch %d/%d  loss %.4f  %.0f samples/s%s",
            record["epoch"],
            self.config.epochs,
            record["loss"],
            record["samples_per_second"],
            "".join(f"  {direction} {value:.4f}" for direction, value in precisions.items()),
        )

    def close(self) -> None:
        """Close the trackers."""
        if self.accelerator.is_main_process:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        self.accelerator.trackers = []


def _tracker(name: str, run: Run, step: int) -> GeneralTracker:
    if name == "tensorboard":
        return TensorBoardTracker("tensorboard", run.path, purge_step=step)
    if name == "wandb":
        return WandBTracker(PROJECT, name=str(run.path), dir=str(run.path))
    return MLflowTracker(PROJECT, run_name=str(run.path))


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
