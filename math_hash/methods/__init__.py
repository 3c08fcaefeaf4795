"""Hash methods by name. A method is one file; `METHODS` is the only place that lists them."""

import inspect
from typing import Any

from math_hash.errors import InputError
from math_hash.methods.dchmt import DCHMT
from math_hash.methods.dcmh import DCMH
from math_hash.methods.djsrh import DJSRH
from math_hash.methods.dsph import DSPH
from math_hash.methods.math import MATH
from math_hash.methods.mesdch import MESDCH
from math_hash.methods.method import Method
from math_hash.methods.mith import MITH
from math_hash.methods.mlsph import MLSPH
from math_hash.methods.mmach import MMACH
from math_hash.methods.scahn import SCAHN
from math_hash.methods.training_free import ITQ, LSH, PCA

METHODS: dict[str, type[Method]] = {
    method.__name__: method
    for method in (MATH, MITH, DSPH, DCHMT, MMACH, MESDCH, MLSPH, SCAHN, DCMH, DJSRH, ITQ, PCA, LSH)
}
WITHOUT_LABELS = "DJSRH"  # what training falls back to where a dataset has no labels


def method_options(name: str, config: Any, **facts: Any) -> dict[str, Any]:
    """The keywords that the method's constructor takes.

    Each is a fact about the data or the encoder, or an option of `config` of the same name, or one of the method's own,
    which `config.method_options` may set ("name=value", separated by blanks) and which has a default.

    Raises:
        InputError: no method has that name, it has no such option, or a fact that it needs is not known.
    """
    if name not in METHODS:
        raise InputError(f"--method {name}: unknown; choose from {', '.join(METHODS)}")
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    wanted = {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
    own = {key: default for key, default in wanted.items() if key not in facts and not hasattr(config, key)}
    chosen = dict(own)
    for setting in config.method_options.split():
        key, _, value = setting.partition("=")
        if key not in own:
            raise InputError(f"--method-options {setting}: {name} takes {', '.join(own) or 'none'}")
        chosen[key] = _parse(setting, value, own[key])
    for key in wanted.keys() - own.keys():
        chosen[key] = facts[key] if key in facts else getattr(config, key)
        if chosen[key] is None:
            raise InputError(f"--method {name}: needs {key}, which the features or the encoder do not have")
    return chosen


def _parse(setting: str, value: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        return type(default)(value)
    except (ValueError, KeyError) as error:
        raise InputError(f"--method-options {setting}: expected a {type(default).__name__}") from error


__all__ = ["METHODS", "WITHOUT_LABELS", "Method", "method_options"]
