"""The configuration of one run: flags, YAML files and presets become one checked dataclass.

A value comes from the first of these that names it: the command line, `--config FILE`, a preset, the protocol of that
name or else the dataset's manifest, the default below. Presets are `math_hash/methods/presets/<dataset>.yaml` and,
where stored features are used, `features.yaml`; their entry `methods` holds what differs by method. A
run's folder holds the whole of it in `config.yaml`.
"""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from math_hash.errors import InputError
from math_hash.files import read_json
from math_hash.protocols import PROTOCOLS

DEFAULT_CLIP_PATH = "./cache/ViT-B-32.pt"


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    *,
    minimum: float | None = None,
    flag: str | None = None,
    words: dict[str, int] | None = None,
) -> Any:
    """A field of `Config` with its help line, its allowed values or least value and, where it differs, its flag.

    words: names of some values.
    """
    about = {"help": help, "choices": choices, "minimum": minimum, "flag": flag, "words": words or {}}
    return field(default=default, metadata=about)


@dataclass
class Config:
    """Everything that decides a run. Checked where it is made.

    Raises:
        InputError: a value is out of its range, or two values exclude each other.
    """

    # the task
    is_train: bool = option(False, "train; without it, --pretrained is evaluated")
    dataset: str = option("flickr25k", "name of the dataset: its folder is <dataset-root>/<name>")
    method: str = option("MATH", "the hash head and its objective")
    method_options: str = option("", "options of the method's own, such as 'centered=true margin=0.1'")
    joint_update: bool = option(False, "update all streams in one step where the method does it in turn")
    k_bits: int = option(16, "length of the codes, in bits", minimum=1)
    pretrained: str = option("", "a trained model: a run folder, a saved folder, or a released MATH .pth")
    bits: int = option(0, "evaluate codes of the m most significant bits of a trained model (0: all)", minimum=0)
    resume: str = option("", "a run folder: continue it where its last finished epoch ended")
    seed: int = option(1, "seed of everything that is drawn in training", minimum=0)

    # the data
    dataset_root: str = option("./dataset", "folder that holds the dataset folders")
    image_root: str = option("", "folder that relative image paths start from (default: what the manifest says)")
    index_file: str = option("index.mat", "file of the image paths, inside the dataset's folder")
    caption_file: str = option("caption.mat", "file of the texts")
    label_file: str = option("label.mat", "file of the 0/1 labels")
    label_t_file: str = option("label_t.mat", "file of the label names as text", flag="--label_t-file")
    features: str = option("", "folder of precomputed features that replaces the encoder (see docs/features.md)")
    query_num: int = option(2000, "rows used as queries", minimum=1)
    train_num: int = option(10000, "rows used for training (validation rows included)", minimum=1)
    val_num: int = option(
        500, "rows cut from the training rows for choosing the epoch, with --select-on val", minimum=0
    )
    split_seed: int = option(1, "seed of the permutation that makes the split", minimum=0)
    draw_captions: bool = option(False, "train on another one of an image's captions in each epoch")
    max_words: int = option(32, "tokens of a text, start and end markers included", minimum=2)
    resolution: int = option(224, "side of the square that the encoder sees, in pixels", minimum=1)
    num_workers: int = option(4, "processes that read and decode pictures", minimum=0)
    on_bad_image: str = option(
        "error", "a picture that cannot be read ends the run, or is counted, listed and left out", ("error", "skip")
    )

    # the encoder
    clip_path: str = option(DEFAULT_CLIP_PATH, "CLIP weights: OpenAI's archive, a state_dict, or safetensors")
    encoder: str | None = option(None, "an open_clip model name, or 'demo', instead of --clip-path")
    encoder_weights: str | None = option(None, "open_clip tag or weight file for --encoder, or 'none': from scratch")
    freeze_encoder: bool = option(False, "train the heads only, on the encoder's features, which are computed once")
    cache_dir: str = option("./cache/features", "folder of what --freeze-encoder and --image-cache keep")
    image_cache: float = option(0, "keep up to so many GB of resized pictures: later epochs decode nothing", minimum=0)

    # the heads
    res_mlp_layers: int = option(2, "residual MLP blocks of the global head", minimum=0)
    transformer_layers: int = option(2, "transformer blocks of the local heads", minimum=0)
    activation: str = option("gelu", "activation of the global head's MLP", ("gelu", "relu"))
    dropout: float = option(0.0, "dropout inside the global head's MLP")
    fusion: str = option(
        "batch", "a label attends to the whole batch (as released), or to its own tokens", ("batch", "token")
    )
    mask_padding: bool = option(True, "leave padding and end markers out of the local heads (released: no)")
    hyper_intra: float = option(4, "weight of the intra-modal likelihood (alpha)", minimum=0)
    hyper_inter: float = option(13, "weight of the inter-modal likelihood (beta)", minimum=0)
    hyper_MSE: float = option(5, "weight of the global-to-local squared error (delta)", minimum=0, flag="--hyper-MSE")
    hyper_quan: float = option(7, "weight of the quantization (gamma)", minimum=0)
    hyper_contrast: float = option(57, "weight of the contrastive alignment (lambda)", minimum=0)

    # the optimizer
    epochs: int = option(30, "passes over the training rows", minimum=1)
    batch_size: int = option(
        128, "rows a step, over all processes together; auto: as many as fit", minimum=0, words={"auto": 0}
    )
    gradient_accumulation: int = option(1, "steps whose gradients are averaged before the weights change", minimum=1)
    lr: float = option(0.001, "learning rate of the heads", minimum=0)
    clip_lr: float = option(0.000002, "learning rate of CLIP", minimum=0)
    weight_decay: float = option(0.01, "decoupled weight decay", minimum=0)
    warmup_proportion: float = option(0.05, "share of all steps in which the learning rate rises")
    compile: bool = option(False, "compile the transformer blocks: a minute at the start, faster steps afterwards")
    precision: str = option("no", "mixed precision", ("no", "fp16", "bf16"))
    gradient_checkpointing: bool = option(False, "compute CLIP's states twice instead of keeping them: less memory")

    # validation and results
    valid_freq: int = option(1, "validate every so many epochs", minimum=1)
    valid_rows: int = option(0, "validate against so many database rows, drawn once by the seed (0: all)", minimum=0)
    select_on: str = option(
        "val", "choose the best epoch on held-out training rows, or on the queries as the releases do", ("val", "test")
    )
    ties: str = option(
        "index",
        "rows at one distance: in database order, mean over all orders, relevant ones first, or last",
        ("index", "expected", "optimistic", "pessimistic"),
    )
    result_name: str = option("RESULT_MATH_FLICKR", "folder of the results")
    save_dir: str = option("", "the run's folder (default: ./<result-name>/<dataset>_<k-bits>/<time>)")

    def __post_init__(self):
        for item in fields(self):
            value, choices = getattr(self, item.name), item.metadata["choices"]
            if isinstance(value, str) and value in item.metadata["words"]:
                value = item.metadata["words"][value]
                setattr(self, item.name, value)
            kinds = (int, float) if item.type in ("float", float) else (item.type,)
            if value is not None and isinstance(item.type, type) and type(value) not in kinds:
                raise InputError(f"{flag_of(item)}: {value!r} is not of type {item.type.__name__}")
            if choices and value not in choices:
                raise InputError(f"{flag_of(item)}: {value!r} is unknown; choose from {', '.join(choices)}")
            minimum = item.metadata["minimum"]
            if minimum is not None and value < minimum:
                raise InputError(f"{flag_of(item)}: {value} is below {minimum}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--dropout: {self.dropout} is outside [0, 1)")
        if not 0 <= self.warmup_proportion < 1:
            raise InputError(f"--warmup-proportion: {self.warmup_proportion} is outside [0, 1)")
        if self.encoder and self.clip_path != DEFAULT_CLIP_PATH:
            raise InputError(
                "--encoder and --clip-path both name weights; give one "
                "(--encoder NAME --encoder-weights FILE loads a file into an open_clip model)"
            )
        if self.encoder and not self.encoder_weights:
            raise InputError(
                f"--encoder {self.encoder} needs --encoder-weights: an open_clip tag such as openai, "
                "a weight file, or none to start from scratch"
            )
        if self.draw_captions and (self.features or self.freeze_encoder):
            raise InputError(
                "--draw-captions excludes --features and --freeze-encoder: a stored feature is of one caption"
            )
        if not self.batch_size and not self.is_train:
            raise InputError("--batch-size auto: is found by steps of training; give a number, or --is-train")
        if self.is_train and self.held_out >= self.train_num:
            raise InputError(
                f"--val-num {self.val_num} leaves no training rows of --train-num {self.train_num}; "
                "lower it or use --select-on test"
            )

    @property
    def held_out(self) -> int:
        """How many training rows are kept apart for validation."""
        return self.val_num if self.select_on == "val" else 0

    @property
    def dataset_folder(self) -> Path:
        """The folder of the four `.mat` files."""
        return Path(self.dataset_root) / self.dataset


def flag_of(item) -> str:
    """The command line's name of a field of `Config`."""
    return item.metadata["flag"] or f"--{item.name.replace('_', '-')}"


def add_flags(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Give `parser` one flag for each field of `Config` that is not in `without`, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these options (names with _)")
    for item in fields(Config):
        if item.name in without:
            continue
        default = "" if item.default in ("", None, False, True) else f" (default: {item.default})"
        arguments = {"dest": item.name, "default": None, "help": item.metadata["help"] + default}
        if item.type is bool:
            action = "store_true" if item.default is False else argparse.BooleanOptionalAction
            parser.add_argument(flag_of(item), action=action, **arguments)
        else:
            kind = item.type if isinstance(item.type, type) else str
            if words := item.metadata["words"]:
                kind = partial(_number, words)
            parser.add_argument(flag_of(item), type=kind, choices=item.metadata["choices"], **arguments)


def _number(words: Mapping[str, int], text: str) -> int:
    try:
        return words[text] if text in words else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, nor {', '.join(words)}") from error


def make_config(flags: dict[str, Any]) -> Config:
    """Build the configuration from parsed flags, in which None means not given.

    Raises:
        InputError: an unknown key in a YAML file, or a value that `Config` refuses.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    from_file = read_yaml(given.pop("config")) if "config" in given else {}
    dataset = given.get("dataset", from_file.get("dataset", "flickr25k"))
    from_preset = _preset(dataset)
    chosen = {**from_file, **given}
    if chosen.get("features") or chosen.get("freeze_encoder"):
        from_preset.update(_preset("features"))
    by_method = from_preset.pop("methods", {})
    from_preset.update(by_method.get(chosen.get("method", Config.method), {}))
    protocol = PROTOCOLS.get(dataset)
    if protocol:
        numbers = {"query_num": protocol.queries, "train_num": protocol.train}
    else:
        root = given.get("dataset_root", from_file.get("dataset_root", Config.dataset_root))
        manifest = Path(root) / dataset / "manifest.json"
        found = read_json(manifest).get("split", {}) if manifest.is_file() else {}
        numbers = {name: found[name] for name in ("query_num", "train_num", "val_num") if name in found}
    return Config(**{**numbers, **from_preset, **from_file, **given})


def _preset(name: str) -> dict[str, Any]:
    preset = files("math_hash") / "methods" / "presets" / f"{name}.yaml"
    return yaml.safe_load(preset.read_text()) if preset.is_file() else {}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of options.

    Raises:
        InputError: the file is missing, is not a mapping, or holds an unknown key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise InputError(f"--config {path}: cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"--config {path}: expected lines of the form 'name: value'")
    content.pop("environment", None)  # what a run's config.yaml adds
    known = {item.name for item in fields(Config)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(f"--config {path}: unknown option {', '.join(map(str, unknown))}; see --help for the names")
    return content


def as_yaml(config: Config) -> str:
    """Write a configuration so that `read_yaml` reads it again."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
