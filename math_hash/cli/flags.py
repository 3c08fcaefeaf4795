"""The options of a run as command-line flags."""

import argparse
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from functools import partial
from typing import Any, get_origin

from math_hash.config import PRECISIONS, RELEASE_OPTIONS, Config, parse_setting
from math_hash.errors import flag

# the first field of each group of `Config`, and what --help calls the group
_GROUPS = {
    "is_train": "the task",
    "dataset_root": "the data",
    "clip_path": "the encoder",
    "epochs": "the optimizer",
    "valid_freq": "validation and results",
}
# `METHODS`, whose module imports PyTorch, which takes seconds
METHOD_NAMES = (
    "MATH", "MITH", "CMCL", "DSPH", "DCGH", "DScPH", "DNPH", "DNpH", "DCHMT", "TwDH", "DHaPH", "DDBH", "DDWSH", "DPBE",
    "DPSIH", "DIMCH", "MMACH", "MESDCH", "MLSPH", "SCAHN", "DCMH", "Pairwise", "UCCH", "DGCPN", "CIRH", "JDSH", "DJSRH",
    "ITQ", "PCA", "LSH", "SignBits", "DMsH-LN", "ClassifierBits", "CCA-ITQ",
)  # fmt: skip
DEVICE = "cpu"  # of commands that encode single queries


@dataclass(frozen=True)
class _HeadFlag:
    """A flag for MATH's heads, from the MATH release or added by this package."""

    kind: type
    help: str
    choices: tuple[str, ...] | None = None


_HEAD_FLAGS = {
    "res_mlp_layers": _HeadFlag(int, "residual MLP blocks of the global head (default: 2)"),
    "transformer_layers": _HeadFlag(int, "transformer blocks of the local heads (default: 2)"),
    "activation": _HeadFlag(str, "activation of the global head's MLP (default: gelu)", ("gelu", "relu")),
    "dropout": _HeadFlag(float, "dropout inside the global head's MLP (default: 0.0)"),
    "fusion": _HeadFlag(
        str,
        "a label attends to the whole batch, as released, or to its own row's tokens (default: batch)",
        ("batch", "token"),
    ),
    "mask_padding": _HeadFlag(bool, "exclude padding and end markers from local heads (default: yes; released: no)"),
    "hyper_intra": _HeadFlag(float, "weight of the intra-modal likelihood, alpha (default: 4)"),
    "hyper_inter": _HeadFlag(float, "weight of the inter-modal likelihood, beta (default: 13)"),
    "hyper_MSE": _HeadFlag(float, "weight of the global-to-local squared error, delta (default: 5)"),
    "hyper_quan": _HeadFlag(float, "weight of the quantization, gamma (default: 7)"),
    "hyper_contrast": _HeadFlag(float, "weight of the contrastive alignment, lambda (default: 57)"),
}


def add_flags(parser: argparse.ArgumentParser, without: Collection[str] = (), hidden: Collection[str] = ()) -> None:
    """Add `--config`, `--set` and a flag for each field of `Config` to `parser`.

    Args:
        without: fields that get no flag.
        hidden: fields whose flags are read, so that the command can refuse them, but not shown by --help.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these options (names with _)")
    group: argparse._ActionsContainer = parser
    for item in fields(Config):
        if item.name in _GROUPS:
            group = parser.add_argument_group(_GROUPS[item.name])
        if item.name not in without and item.name != "method_options":
            action = _add_flag(group, item)
            action.help = argparse.SUPPRESS if item.name in hidden else action.help
    if "method_options" in without:
        return
    about = "--set changes any option of any method; the other flags are options of MATH's heads."
    shown = "method_options" not in hidden
    for action in _add_method_flags(parser.add_argument_group("options of the method", about) if shown else parser):
        action.help = action.help if shown else argparse.SUPPRESS


def _add_method_flags(group: argparse._ActionsContainer) -> Iterator[argparse.Action]:
    """Add `--set` and the flags of MATH's heads to a parser or a group of it."""
    help = "options such as margin=0.2 (docs/methods.md)"
    yield group.add_argument("--set", nargs="+", action="extend", metavar="NAME=VALUE", help=help)
    for name in RELEASE_OPTIONS:
        head = _HEAD_FLAGS[name]
        if head.kind is bool:
            action = argparse.BooleanOptionalAction
            yield group.add_argument(flag(name), dest=name, default=None, action=action, help=head.help)
        else:
            yield group.add_argument(
                flag(name), dest=name, default=None, type=head.kind, choices=head.choices, help=head.help
            )


def add_model_flags(parser: argparse.ArgumentParser, device: str = DEVICE) -> None:
    """Add `--device` and `--precision`, where and in which a model encodes.

    Args:
        device: the default of `--device`.
    """
    parser.add_argument("--device", default=device, help=f"where it encodes: cpu, cuda, cuda:1, mps ({device})")
    meaning = "of encoding; auto: bf16 weights where the processor or the GPU multiplies bf16 (auto)"
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=meaning)


def new_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help: str, description: str
) -> argparse.ArgumentParser:
    """The parser of a command, whose description keeps its line ends."""
    raw = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=help, description=description, formatter_class=raw)


def port_number(text: str) -> int:
    """The number of a port, for argparse."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, not {text!r}")
    return int(text)


def _add_flag(parser: argparse._ActionsContainer, item: Field) -> argparse.Action:
    default = "" if item.default in ("", None) or item.type is bool else f" (default: {item.default})"
    if get_origin(item.type) is list:
        default = f" (default: {' '.join(item.default_factory())})" if callable(item.default_factory) else ""
    if item.name == "method":
        default += "; " + " ".join(METHOD_NAMES)
    arguments = {"dest": item.name, "default": None, "help": item.metadata["help"] + default}
    if item.type is bool:
        action = "store_true" if item.default is False else argparse.BooleanOptionalAction
        return parser.add_argument(flag(item.name), action=action, **arguments)
    if get_origin(item.type) is list:
        return parser.add_argument(flag(item.name), nargs="*", choices=item.metadata["choices"], **arguments)
    kind: Any = item.type if isinstance(item.type, type) else str
    if words := item.metadata["words"]:
        kind = partial(_number, words)
    return parser.add_argument(flag(item.name), type=kind, choices=item.metadata["choices"], **arguments)


def _number(words: Mapping[str, int], text: str) -> int:
    try:
        return words[text] if text in words else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {', '.join(words)}") from error


def given_options(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The input for `make_config` from parsed flags: only those given, with the method's options in one dictionary.

    Raises:
        InputError: a setting is not of the form NAME=VALUE.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    options = {name: given.pop(name) for name in RELEASE_OPTIONS if name in given}
    options |= dict(parse_setting(setting) for setting in given.pop("set", ()))
    return {**given, "method_options": options} if options else given
