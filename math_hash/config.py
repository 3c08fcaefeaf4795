"""The configuration of one run: keywords, flags, YAML files and presets become one checked dataclass.

A value comes from the first of these that sets it: the command line or a keyword, `--config FILE`, a preset, the
dataset's protocol or else its manifest, the default below. Presets are YAML files in `methods/presets/`: one per
method, with one section per setting (its authors' settings, ours on a dataset or on stored features);
`datasets/<dataset>.yaml`, what a dataset needs with any method; and `features.yaml`, likewise for stored features.
`method_options` holds a method's own options; this file knows only those that have flags in the MATH release. A run's
folder holds the whole configuration in `config.yaml`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from math_hash.errors import InputError, one_line
from math_hash.files import MOST_MANIFEST, read_bytes, read_json
from math_hash.plain_data import parse_yaml
from math_hash.protocols import PROTOCOLS

_MOST_YAML, _LARGEST_SEED = 1 << 16, 2**32 - 1  # bytes of a file; of NumPy's legacy generator
PRECISIONS = ("auto", "no", "fp16", "bf16")
DEFAULT_CLIP_PATH = "./cache/ViT-B-32.pt"
# options of MATH's heads, and of methods that share them, that have flags, as in the MATH release
RELEASE_OPTIONS = (
    "res_mlp_layers", "transformer_layers", "activation", "dropout", "fusion", "mask_padding",
    "hyper_intra", "hyper_inter", "hyper_MSE", "hyper_quan", "hyper_contrast",
)  # fmt: skip


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    *,
    minimum: float | None = None,
    maximum: float = 10**12,
    words: dict[str, int] | None = None,
) -> Any:
    """A field of `Config`: help line, allowed values or range, and words for values."""
    metadata = {"help": help, "choices": choices, "range": (minimum, maximum), "words": words or {}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Config:
    """All settings of a run, checked when it is created.

    Raises:
        InputError: a value is out of its range, or two values exclude each other.
    """

    # the task
    is_train: bool = option(False, "train; without this flag, --pretrained is evaluated")
    dataset: str = option("flickr25k", "name of the dataset: its folder is <dataset-root>/<name>")
    method: str = option("MATH", "the hash head and its objective: a name, or package.module:Class")
    method_options: dict[str, Any] = option({}, "the method's own options: name -> value")
    preset: str = option("ours", "defaults tuned on held-out rows, or those of its authors", ("ours", "authors"))
    joint_update: bool = option(False, "update all streams in one step, even if the method updates them in turn")
    k_bits: int = option(16, "length of the codes, in bits", minimum=1, maximum=32_767)
    pretrained: str = option("", "a trained model: a run folder, a saved folder, or a released MATH .pth")
    bits: int = option(0, "evaluate only a trained model's m most significant bits (0: all)", minimum=0)
    resume: str = option("", "a run folder: continue it after its last finished epoch")
    device: str = option("auto", "where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, mps")
    seed: int = option(1, "seed of all randomness in training", minimum=0, maximum=_LARGEST_SEED)

    # the data
    dataset_root: str = option("./dataset", "folder that holds the dataset folders")
    image_root: str = option("", "folder that relative image paths start from (default: what the manifest says)")
    index_file: str = option("index.mat", "file of the image paths, inside the dataset's folder")
    caption_file: str = option("caption.mat", "file of the texts")
    label_file: str = option("label.mat", "file of the 0/1 labels")
    label_t_file: str = option("label_t.mat", "file of the label names as text")
    features: str = option("", "folder of precomputed features that replaces the encoder (see docs/features.md)")
    query_num: int = option(2000, "rows used as queries", minimum=1)
    train_num: int = option(10000, "rows used for training (validation rows included)", minimum=1)
    val_num: int = option(500, "training rows held out for choosing the epoch, with --select-on val", minimum=0)
    split_seed: int = option(1, "seed of the permutation that makes the split", minimum=0, maximum=_LARGEST_SEED)
    unseen_labels: int = option(0, "labels, drawn with --split-seed, never trained on and evaluated alone", minimum=0)
    draw_captions: bool = option(False, "in each epoch, train on one of an image's captions, drawn at random")
    max_words: int = option(32, "maximum tokens per text, start and end markers included", minimum=2)
    resolution: int = option(224, "side of the square that the encoder sees, in pixels", minimum=16)
    num_workers: int = option(4, "processes that read and decode pictures", minimum=0)
    on_bad_image: str = option(
        "error", "a picture that cannot be read ends the run, or is counted, listed and left out", ("error", "skip")
    )

    # the encoder
    clip_path: str = option(DEFAULT_CLIP_PATH, "CLIP weights: OpenAI's archive, a state_dict, or safetensors")
    encoder: str | None = option(None, "an open_clip model, by name or folder, or 'demo', instead of --clip-path")
    encoder_weights: str | None = option(None, "open_clip tag or weight file for --encoder, or 'none': from scratch")
    freeze_encoder: bool = option(False, "train the heads only, on the encoder's features, which are computed once")
    cache_dir: str = option("./cache/features", "folder for the caches of --freeze-encoder and --image-cache")
    image_cache: float = option(0, "GB of resized pictures to cache, so later epochs need not decode them", minimum=0)

    # the optimizer
    epochs: int = option(30, "passes over the training rows", minimum=1)
    batch_size: int = option(
        128, "rows per step of all processes; auto, in one training: as many as fit", minimum=0, words={"auto": 0}
    )
    memory_share: float = option(0.85, "fraction of the free memory that --batch-size auto may use", minimum=0)
    memory_overhead: float = option(
        1.6, "on a CPU, --batch-size auto expects a process to use this many times the memory of its tensors", minimum=1
    )
    gradient_accumulation: int = option(1, "steps whose gradients are averaged before the weights change", minimum=1)
    lr: float = option(0.001, "learning rate of the heads", minimum=0)
    clip_lr: float = option(0.000002, "learning rate of CLIP", minimum=0)
    weight_decay: float = option(0.01, "decoupled weight decay", minimum=0)
    warmup_proportion: float = option(0.05, "fraction of all steps during which the learning rate rises")
    compile: bool = option(False, "compile the transformer blocks: takes a minute at the start, then steps are faster")
    precision: str = option("", "of matrix products; auto: bf16 where it is fast (training: no, else auto)", PRECISIONS)
    gradient_checkpointing: bool = option(False, "recompute CLIP's states instead of keeping them: slower, less memory")

    # validation and results
    valid_freq: int = option(1, "epochs between validations", minimum=1)
    valid_rows: int = option(0, "database rows to validate against, drawn once with the seed (0: all)", minimum=0)
    select_on: str = option(
        "val", "choose the best epoch on held-out training rows, or on the queries as the releases do", ("val", "test")
    )
    ties: str = option(
        "index",
        "rows at the same distance: in database order, mean over all orders, relevant ones first, or last",
        ("index", "expected", "optimistic", "pessimistic"),
    )
    tracker: list[str] = option(["tensorboard"], "where losses and mAP are logged", ("tensorboard", "wandb", "mlflow"))
    result_name: str = option("", "folder of the results (default: RESULT_<method>_<DATASET>)")
    save_dir: str = option("", "the run's folder (default: one of its own in ./<result-name>/<dataset>_<k-bits>)")

    def __post_init__(self) -> None:
        dataset = "FLICKR" if self.dataset == "flickr25k" else self.dataset.upper()  # as the MATH release names it
        self.result_name = self.result_name or f"RESULT_{self.method.rpartition(':')[2]}_{dataset}"
        self.precision = self.precision or ("no" if self.is_train else "auto")
        for item in fields(self):
            self._check(item)
        if not 0 <= self.warmup_proportion < 1:
            raise InputError(f"`warmup_proportion`: {self.warmup_proportion} is outside [0, 1)")
        if self.encoder and self.clip_path != DEFAULT_CLIP_PATH:
            raise InputError(
                "`encoder` and `clip_path` both name weights; give one "
                "(`encoder` NAME with `encoder_weights` FILE loads a file into an open_clip model)"
            )
        if self.encoder and not self.encoder_weights:
            raise InputError(
                f"`encoder` {self.encoder} needs `encoder_weights`: an open_clip tag such as openai, "
                "a weight file, or none to start from scratch"
            )
        if self.draw_captions and (self.features or self.freeze_encoder):
            raise InputError(
                "`draw_captions` excludes `features` and `freeze_encoder`: stored features are of one caption"
            )
        if not self.batch_size and not self.is_train:
            raise InputError("`batch_size` auto: is measured on training steps; give a number")
        if self.is_train and self.held_out >= self.train_num:
            raise InputError(
                f"`val_num` {self.val_num} leaves no training rows of `train_num` {self.train_num}; "
                "lower it or use `select_on` test"
            )

    def _check(self, item: Field) -> None:
        value, choices = getattr(self, item.name), item.metadata["choices"]
        if isinstance(value, str) and value in item.metadata["words"]:
            value = item.metadata["words"][value]
            setattr(self, item.name, value)
        expected = origin if (origin := get_origin(item.type)) in (list, dict) else item.type
        if expected is UnionType:  # such as str | None
            expected = get_args(item.type)[0]
        if isinstance(value, tuple) and expected is list:
            value = list(value)
            setattr(self, item.name, value)
        kinds = (int, float) if expected is float else (expected,)
        if value is not None and isinstance(expected, type) and type(value) not in kinds:
            raise InputError(f"`{item.name}`: {value!r} is not of type {expected.__name__}")
        for one in value if isinstance(value, list) else [value]:
            if choices and one not in choices:
                raise InputError(f"`{item.name}`: {one!r} is unknown; choose from {', '.join(choices)}")
        minimum, maximum = item.metadata["range"]
        if minimum is not None and not minimum <= value <= maximum:
            wrong = f"below {minimum}" if value < minimum else f"not a number up to {maximum:,}"
            raise InputError(f"`{item.name}`: {value} is {wrong}")

    @property
    def held_out(self) -> int:
        """How many training rows are held out for validation."""
        return self.val_num if self.select_on == "val" else 0

    @property
    def dataset_folder(self) -> Path:
        """The folder of the four `.mat` files."""
        return Path(self.dataset_root) / self.dataset


def make_config(given: Mapping[str, Any]) -> Config:
    """Build the configuration from keywords or parsed flags; None means not given.

    Args:
        given: fields of `Config` by name, and "config", a YAML file.

    Raises:
        InputError: a YAML file has an unknown key, or `Config` rejects a value.
    """
    given = {name: value for name, value in given.items() if value is not None}
    from_file = read_yaml(given.pop("config")) if "config" in given else {}
    chosen = {**from_file, **given}
    return Config(**_merged([_protocol_numbers(chosen), *_presets(chosen), from_file, given]))


def _merged(sources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge sources, later ones over earlier ones; options of the method are merged one by one."""
    merged: dict[str, Any] = {}
    for source in sources:
        options = {**merged.get("method_options", {}), **source.get("method_options", {})}
        merged |= {**source, "method_options": options}
    return merged


def _protocol_numbers(chosen: Mapping[str, Any]) -> dict[str, int]:
    dataset = chosen.get("dataset", Config.dataset)
    if protocol := PROTOCOLS.get(dataset):
        return {"query_num": protocol.queries, "train_num": protocol.train}
    manifest = Path(chosen.get("dataset_root", Config.dataset_root)) / dataset / "manifest.json"
    split = read_json(manifest, MOST_MANIFEST).get("split", {}) if manifest.exists() else {}
    if not isinstance(split, dict):
        raise InputError(f"{manifest}: split: {split!r}; expected an object with query_num and train_num")
    return {name: split[name] for name in ("query_num", "train_num", "val_num") if name in split}


def _presets(chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of the presets, the general ones first."""
    dataset, method = chosen.get("dataset", Config.dataset), chosen.get("method", Config.method)
    stored = bool(chosen.get("features") or chosen.get("freeze_encoder"))
    of_dataset, of_method = _preset(f"datasets/{dataset}"), _preset(method)
    if chosen.get("preset") == "authors":
        return [of_dataset, of_method.get("authors", {})]
    general = _preset("features") if stored else {}
    return [of_dataset, general, of_method.get("features" if stored else dataset, {})]


def _preset(name: str) -> dict[str, Any]:
    if not all(part.replace("-", "_").isidentifier() for part in name.split("/")):
        return {}
    preset = files("math_hash") / "methods" / "presets" / f"{name}.yaml"
    return yaml.safe_load(preset.read_text()) if preset.is_file() else {}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of options; those in `RELEASE_OPTIONS` become options of the method.

    Raises:
        InputError: the file is missing, is not a mapping, or holds an unknown key.
    """
    try:
        content = parse_yaml(read_bytes(path, _MOST_YAML))
    except (OSError, ValueError) as error:
        raise InputError(f"`config` {path}: cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"`config` {path}: expected lines of the form 'name: value'")
    content.pop("environment", None)  # what a run's config.yaml adds
    known = {item.name for item in fields(Config)} | {*RELEASE_OPTIONS}
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(
            f"`config` {path}: unknown option {', '.join(map(str, unknown))}; math_hash.config.Config lists all of them"
        )
    options = content.get("method_options") or {}
    if isinstance(options, str):  # as earlier versions wrote it
        options = dict(parse_setting(setting) for setting in options.split())
    if not isinstance(options, dict):
        raise InputError(f"`config` {path}: method_options: {options!r}; expected a mapping, name: value")
    released = {name: content.pop(name) for name in RELEASE_OPTIONS if name in content}
    return {**content, "method_options": {**released, **options}}


def parse_setting(text: str) -> tuple[str, Any]:
    """The name and the value of NAME=VALUE; the value is read as YAML: 0.2, true, word, [64, 128].

    Raises:
        InputError: there is no name, or the value is not YAML.

    >>> parse_setting("widths=[64, 128]")
    ('widths', [64, 128])
    """
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise InputError(f"`method_options` {text}: expected NAME=VALUE, such as margin=0.2")
    try:
        return name, parse_yaml(value)
    except ValueError as error:
        wrong = f"`method_options` {text}: {value!r} cannot be read"
        raise InputError(f"{wrong}; write a number, true, a word or [a, b]") from error


def as_yaml(config: Config) -> str:
    """Write a configuration so that `read_yaml` reads it again."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
