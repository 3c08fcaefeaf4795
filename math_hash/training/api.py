"""Training and evaluation from Python; the command-line tools call the same two functions.

run = math_hash.train(dataset="flickr25k", k_bits=16)
run.results["mAP"]["image->text"]
again = math_hash.evaluate(run.path, dataset="flickr25k", k_bits=16, ties="expected")
"""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from typing_extensions import Unpack

from math_hash.config import Config, make_config
from math_hash.errors import InputError
from math_hash.files import read_json
from math_hash.methods import Method, name_of
from math_hash.training import loop
from math_hash.training.batch_size import largest_batch_size
from math_hash.training.keywords import Keywords
from math_hash.training.plots import plot_history
from math_hash.training.report import write_results
from math_hash.training.run_folder import RESULTS, Run, require_free
from math_hash.training.runtime import make_accelerator
from math_hash.training.setup import Data, open_data, with_usable_method
from math_hash.training.state import shows_progress

# options that may change when a run is resumed: where things are, not what is computed
_MOVABLE = {"resume", "num_workers", "image_root", "dataset_root", "cache_dir", "device", "is_train"}


def train(config: Config | None = None, /, **options: Unpack[Keywords]) -> Run:
    """Train a method on a dataset, and evaluate the best epoch's model.

    Args:
        config: the complete configuration; or, instead of it,
        options: fields of `Config` by name; presets, protocols and defaults fill in the rest. `config="FILE"` is a
            YAML file with more of them, and `method` may be a class. `resume="RUN"` continues an interrupted run.

    Returns:
        The run: `run.results`, `run.load_model()`, `run.read_metrics()` (one record per epoch), `run.path`.

    Raises:
        InputError: something is wrong with the options, the data, the weights or the disk.
    """
    config = config or configured({**options, "is_train": True})
    accelerator = make_accelerator(config)
    data = _opened(config, accelerator)
    wanted, config = config.method, with_usable_method(config, data)
    if config.method != wanted and accelerator.is_main_process:
        print(f"note: {config.dataset} has no labels, which {wanted} needs; training {config.method} instead")
    if not config.batch_size and not config.resume:
        config = replace(config, batch_size=largest_batch_size(config, accelerator, data.for_training))
    run = loop.train(config, accelerator, data.for_training)
    selection = {"selected_on": config.select_on, "selected_epoch": run.best_epoch}
    write_results(replace(config, pretrained=str(run.path)), accelerator, data, run.path, selection)
    if accelerator.is_main_process and (history := run.read_metrics()):
        plot_history(history, run.path / "plots")
    accelerator.wait_for_everyone()
    return run


def evaluate(pretrained: str | os.PathLike | Config, /, **options: Unpack[Keywords]) -> Run:
    """Evaluate a trained model on a dataset: mAP in four directions, codes as a .mat file, a contact sheet.

    Args:
        pretrained: a run folder, a saved folder or a released MATH .pth; or a configuration that names it.
        options: as for `train`; `k_bits` and `method` must be those that the model was trained with.

    Returns:
        The evaluation, in a folder of its own: `.results`, `.path`.

    Raises:
        InputError: something is wrong with the options, the data, the weights or the disk.
    """
    if isinstance(pretrained, Config):
        config = pretrained
    else:
        config = configured({**options, "pretrained": os.fspath(pretrained)})
    accelerator = make_accelerator(config)
    data = _opened(config, accelerator)
    config = with_usable_method(config, data)
    earlier = Path(config.pretrained) / RESULTS
    selection: dict[str, Any] = {"selected_on": "unknown", "selected_epoch": None}
    recorded: dict[str, Any] = {}
    if earlier.is_file():
        recorded = read_json(earlier)
        selection = {name: recorded.get(name) for name in selection}
    _require_unseen(config, data, recorded)
    folder = write_results(config, accelerator, data, None, selection)
    accelerator.wait_for_everyone()
    return Run(folder)


def _require_unseen(config: Config, data: Data, recorded: Mapping[str, Any]) -> None:
    """Check, before labels are called unseen, that the model's results say that it was trained without them."""
    names = data.unseen_names
    if names and recorded.get("unseen_labels") != names:
        raise InputError(
            f"`unseen_labels` {config.unseen_labels}: {config.pretrained} is not known to have been trained without "
            f"{', '.join(names)}; train a run with `unseen_labels`, and evaluate it with the same dataset and split"
        )


def configured(given: Mapping[str, Any]) -> Config:
    """Build the configuration from keywords or flags; with `resume`, from that of the run to resume.

    Raises:
        InputError: an option is unknown, or a value is not allowed or differs from that of the run to resume.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(method := given.get("method"), type) and issubclass(method, Method):
        given["method"] = name_of(method)
    known = {item.name for item in fields(Config)} | {"config"}
    if unknown := given.keys() - known:
        raise InputError(f"{', '.join(sorted(unknown))}: no such option; math_hash.config.Config lists all of them")
    if not given.get("resume"):
        return make_config(given)
    saved = Run(given["resume"]).read_config()
    for item in fields(Config):
        if item.name in given and item.name not in _MOVABLE and given[item.name] != saved.get(item.name):
            raise InputError(
                f"`resume` {given['resume']}: the run has `{item.name}` {saved.get(item.name)}; leave "
                f"`{item.name}` out, or start a new run"
            )
    return Config(**{**saved, **{name: given[name] for name in _MOVABLE if name in given}})


def _opened(config: Config, accelerator: Accelerator) -> Data:
    if accelerator.is_main_process and not config.resume:
        require_free(config)  # before all the work that a new folder needs
    return open_data(config, progress=shows_progress(accelerator))
