"""The options of commands that open a trained model: those of its run, and those that are given."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from math_hash.config import RELEASE_OPTIONS, read_yaml
from math_hash.errors import InputError
from math_hash.files import read_json

# fields of `Config` that change nothing once a model is trained
TRAINING_ONLY = (
    "method_options", "preset", "joint_update", "seed", "draw_captions", "max_words", "resolution", "clip_path",
    "epochs", "memory_share", "memory_overhead", "gradient_accumulation", "lr", "clip_lr", "weight_decay",
    "warmup_proportion", "compile", "gradient_checkpointing", "valid_freq", "valid_rows", "tracker",
)  # fmt: skip
# fields that describe the run's own dataset, and no other
_OF_DATASET = (
    "image_root", "index_file", "caption_file", "label_file", "label_t_file", "features", "query_num", "train_num",
    "val_num", "split_seed", "unseen_labels", "result_name",
)  # fmt: skip


def refuse(given: Iterable[str], names: Collection[str], reason: str) -> None:
    """Refuse flags that change nothing in what a command does.

    Args:
        given: destinations of the flags that are given.
        names: those of the flags to refuse.
        reason: what they are for.

    Raises:
        InputError: one of `names` is given.
    """
    for name in given:
        if name in names:
            raise InputError(f"`{name}`: {reason}")


def refuse_training_flags(given: Iterable[str]) -> None:
    """Refuse the flags of training, those of methods included.

    Raises:
        InputError: one is given.
    """
    refuse(given, {*TRAINING_ONLY, "set", *RELEASE_OPTIONS}, "is for training, and changes nothing in a trained model")


def options_of(model: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `make_config` takes to evaluate a trained model: the options of its run, and over them the given ones.

    Args:
        model: a run folder, a saved folder or a released .pth. A saved folder tells method and length only, a .pth
            neither.
        given: options by name; where they name another dataset than the run's, its files and sizes are left out.

    Raises:
        InputError: nothing is there, or the run's configuration is damaged.
    """
    if not model.exists():
        raise InputError(f"{model}: no such file or folder; expected a run folder, a model or a .mat file of codes")
    saved: dict[str, Any] = {}
    if (model / "config.yaml").is_file():
        saved = read_yaml(model / "config.yaml")
        if given.get("dataset", saved.get("dataset")) != saved.get("dataset"):
            saved = {name: value for name, value in saved.items() if name not in _OF_DATASET}
        saved |= {"is_train": False, "resume": "", "save_dir": "", "bits": 0, "device": "auto"}
    elif (model / "config.json").is_file():
        content = read_json(model / "config.json")
        saved = {name: content[name] for name in ("method", "k_bits") if name in content}
    return {**saved, **given, "pretrained": str(model)}
