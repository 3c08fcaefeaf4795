"""A run's folder: configuration, log, metrics, model, checkpoints, results."""

import json
import logging
import os
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
import yaml

from math_hash.config import Config, as_yaml, read_yaml
from math_hash.data import DatasetFolder
from math_hash.data.rejected import write_rejected
from math_hash.data.text_files import stream_lines
from math_hash.errors import InputError
from math_hash.files import atomic_writer, read_json, remove_abandoned, write_text
from math_hash.methods.registry import option_names, short_name
from math_hash.models.code_model import CodeModel
from math_hash.models.load import load_model
from math_hash.plain_data import parse_json

CONFIG, METRICS, RESULTS, LOG = "config.yaml", "metrics.jsonl", "results.json", "train.log"
CHECKPOINT, REJECTED = "checkpoints/last.pt", "rejected.tsv"
_PACKAGES = ("math_hash", "torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "scipy", "numba", "pillow")


def require_free(config: Config) -> None:
    """Raises InputError if `--save-dir` is there already."""
    if config.save_dir and os.path.exists(config.save_dir):
        raise _taken(Path(config.save_dir))


def new_folder(config: Config) -> Path:
    """Make the folder of a new run or evaluation, which no other one has, even if it starts in the same second.

    Returns:
        `--save-dir`, or ./<result-name>/<dataset>_<k-bits>/<time>_<method>_<k-bits>_seed<seed>, with `test` in place of
        the seed for an evaluation; if that is taken, with a number behind it.

    Raises:
        InputError: `--save-dir` is there already, or the folder cannot be made.
    """
    if config.save_dir:
        if not _made(path := Path(config.save_dir)):
            raise _taken(path)
        return path
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    kind = f"seed{config.seed}" if config.is_train else "test"
    name = f"{time}_{short_name(config.method)}_{config.k_bits}_{kind}"
    parent = Path(config.result_name, f"{config.dataset}_{config.k_bits}")
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(path for path in map(parent.joinpath, names) if _made(path))


def _taken(path: Path) -> InputError:
    is_run = (path / CONFIG).exists()
    state = f"already holds a run; continue it with `resume` {path}," if is_run else "is there already; remove it"
    return InputError(f"{path}: {state} or choose another `save_dir`")


def _made(path: Path) -> bool:
    """Make a folder; False if there is one already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            return False
    except OSError as error:
        raise InputError(f"cannot make {path}: {error.strerror}; choose another `save_dir`") from error
    return True


class Run:
    """A run's folder and its contents. Only the main process writes.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def results(self) -> dict[str, Any]:
        """Its `results.json`: mAP in each direction, the sizes of the protocol, how the epoch was chosen.

        Raises:
            InputError: the run has not been evaluated.
        """
        return read_json(self.path / RESULTS)

    @property
    def best_epoch(self) -> int | None:
        """The epoch that `model.safetensors` was saved after: the first with the highest score."""
        scored = [record for record in self.read_metrics() if "score" in record]
        return max(scored, key=lambda record: record["score"])["epoch"] if scored else None

    def load_model(self, device: str | torch.device = "cpu", precision: str = "no") -> CodeModel:
        """The best model of the run, for encoding.

        Raises:
            InputError: there is none; an evaluation's folder holds results and codes only.
        """
        return load_model(self.path, device, precision)

    @classmethod
    def create(cls, config: Config, folder: DatasetFolder) -> "Run":
        """A new run, in a folder of its own with its `config.yaml`, which also says what rows it is trained on.

        Raises:
            InputError: see `new_folder`.
        """
        run = cls(new_folder(config))
        environment = {
            "protocol": folder.protocol,
            "rows_sum": folder.rows_sum,
            "git_revision": _git_revision(),
            "python": platform.python_version(),
            "packages": {name: number for name in _PACKAGES if (number := _version(name))},
            "command": " ".join(sys.argv),
        }
        content = as_yaml(replace(config, save_dir="")) + yaml.safe_dump({"environment": environment}, sort_keys=False)
        write_text(run.path / CONFIG, content)
        return run

    def read_config(self) -> dict[str, Any]:
        """The options that the run was started with.

        Raises:
            InputError: there is no run, or its configuration is damaged.
        """
        if not (self.path / CONFIG).is_file():
            raise InputError(f"`resume` {self.path}: holds no run (no {CONFIG}); expected a run folder")
        content = read_yaml(self.path / CONFIG)
        if "preset" not in content:  # an earlier version, which also recorded options that the method does not take
            taken = option_names(content["method"])
            content["method_options"] = {k: v for k, v in content["method_options"].items() if k in taken}
        return content

    def remove_abandoned(self) -> None:
        """Remove the temporary files of killed processes."""
        for folder in (self.path, (self.path / CHECKPOINT).parent):
            remove_abandoned(folder)

    def require_rows(self, folder: DatasetFolder) -> None:
        """Compare a dataset with the one that the run was started with; runs of earlier versions do not know.

        Raises:
            InputError: it has other rows.
        """
        environment = yaml.safe_load((self.path / CONFIG).read_text()).get("environment") or {}
        if environment.get("rows_sum", folder.rows_sum) != folder.rows_sum:
            raise InputError(
                f"`resume` {self.path}: {folder.path} has other rows than when the run was started; restore that "
                "dataset, or start a new run"
            )

    def start_logging(self) -> logging.Logger:
        """The run's logger: to `train.log` and to the terminal."""
        logger = logging.getLogger("math_hash")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        to_file = logging.FileHandler(self.path / LOG)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(to_file)
        logger.addHandler(logging.StreamHandler(sys.stdout))
        return logger

    def read_metrics(self) -> list[dict[str, Any]]:
        """The record of each finished epoch; an incomplete last line is ignored.

        Raises:
            InputError: a line is damaged.
        """
        path = self.path / METRICS
        lines = stream_lines(path) if path.exists() else []
        return [_record(path, number, line) for number, line in enumerate(lines, start=1) if line.endswith("\n")]

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Write the records of all epochs so far, one per line."""
        write_text(self.path / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def write_rejected(self, folder: DatasetFolder, rejected: dict[int, str]) -> None:
        """Write `rejected.tsv`: the pictures that were left out, and why."""
        rows = [(row, folder.images[row], reason) for row, reason in rejected.items()]
        write_rejected(self.path / REJECTED, rows, ("row", "image", "reason"))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the full state for resuming, atomically.

        Raises:
            InputError: it could not be written; the older checkpoint is untouched.
        """
        path = self.path / CHECKPOINT
        with atomic_writer(path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # how PyTorch's writer reports a failed write
                raise OSError(0, str(error).split("\n")[0]) from error

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The state of the last finished epoch, on the CPU; None where no epoch was finished.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged zip or pickle raises many kinds of errors
            reason = str(error).split("\n")[0]
            raise InputError(f"{path}: damaged ({reason}); delete it to start the run over") from error


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return {"epoch": number, **parse_json(line)}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}, line {number}: not a record of an epoch ({error}); remove the line") from error


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=folder, capture_output=True, text=True
        )
    except OSError:
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None
