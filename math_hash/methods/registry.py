"""Methods by name: the package's own, those of installed packages, and classes on the local machine.

A name is one of `METHODS`, or an entry point of the group `math_hash.methods`, or `package.module:Class`. The last form
imports code by a name that may come from a file, so it is refused for models from a hub.
"""

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from math_hash.errors import InputError, one_line
from math_hash.methods.cirh import CIRH
from math_hash.methods.classifier_bits import ClassifierBits
from math_hash.methods.cmcl import CMCL
from math_hash.methods.dcgh import DCGH
from math_hash.methods.dchmt import DCHMT
from math_hash.methods.dcmh import DCMH
from math_hash.methods.ddbh import DDBH
from math_hash.methods.ddwsh import DDWSH
from math_hash.methods.dgcpn import DGCPN
from math_hash.methods.dhaph import DHaPH
from math_hash.methods.dimch import DIMCH
from math_hash.methods.djsrh import DJSRH
from math_hash.methods.dmsh_ln import DMsHLN
from math_hash.methods.dnph import DNPH
from math_hash.methods.dnph_quadratic import DNpH
from math_hash.methods.dpbe import DPBE
from math_hash.methods.dpsih import DPSIH
from math_hash.methods.dscph import DScPH
from math_hash.methods.dsph import DSPH
from math_hash.methods.jdsh import JDSH
from math_hash.methods.math import MATH
from math_hash.methods.mesdch import MESDCH
from math_hash.methods.method import Method
from math_hash.methods.mith import MITH
from math_hash.methods.mlsph import MLSPH
from math_hash.methods.mmach import MMACH
from math_hash.methods.option_values import as_type
from math_hash.methods.pairwise import Pairwise
from math_hash.methods.scahn import SCAHN
from math_hash.methods.training_free import CCAITQ, ITQ, LSH, PCA, SignBits
from math_hash.methods.twdh import TwDH
from math_hash.methods.ucch import UCCH

METHODS: dict[str, type[Method]] = {
    method.__name__: method
    for method in (
        MATH, MITH, CMCL, DSPH, DCGH, DScPH, DNPH, DNpH, DCHMT, TwDH, DHaPH, DDBH, DDWSH, DPBE, DPSIH, DIMCH,
        MMACH, MESDCH, MLSPH, SCAHN, DCMH, Pairwise, UCCH, DGCPN, CIRH, JDSH, DJSRH, ITQ, PCA, LSH, SignBits,
    )
} | {"DMsH-LN": DMsHLN, "ClassifierBits": ClassifierBits, "CCA-ITQ": CCAITQ}  # fmt: skip
WITHOUT_LABELS = "DJSRH"  # training falls back to it if a dataset has no labels
GROUP = "math_hash.methods"


def method_names() -> list[str]:
    """The package's own methods, then those that installed packages register."""
    return [*METHODS, *sorted({point.name for point in entry_points(group=GROUP)} - METHODS.keys())]


def find_method(name: str, *, trusted: bool = True) -> type[Method]:
    """The class of a method.

    Args:
        name: of the package's own, an entry point's, or `package.module:Class`.
        trusted: whether modules may be imported by the name; False for a name from a hub's file.

    Raises:
        InputError: there is no method of that name, or the object of that name is not a `Method`.
    """
    if name in METHODS:
        return METHODS[name]
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                return _checked(name, point.load())
            except (ImportError, AttributeError) as error:
                raise InputError(f"method {name}: its package cannot be imported ({one_line(error)})") from error
    if ":" in name and not trusted:
        raise InputError(
            f"method {name}: a model from a hub may not import a class by its dotted name; install the package "
            f"that registers it under {GROUP}, or download the model and open its folder"
        )
    if ":" in name:
        return _checked(name, _imported(name))
    raise InputError(
        f"method {name} is not installed: pip install the package that brings it, or import it as "
        f"package.module:Class; installed are {', '.join(method_names())}"
    )


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"method {name} is not installed: pip install the package that brings {module.partition('.')[0]}, or "
            f"import it from a folder on PYTHONPATH ({one_line(error)})"
        ) from error
    return value


def _checked(name: str, value: Any) -> type[Method]:
    if not (isinstance(value, type) and issubclass(value, Method)):
        raise InputError(f"method {name}: is {value!r}; expected a subclass of math_hash.methods.Method")
    return value


def name_of(method: type[Method]) -> str:
    """The name under which `find_method` returns this class.

    Raises:
        InputError: it is defined inside a function, where nothing can import it.
    """
    for name, known in METHODS.items():
        if known is method:
            return name
    if "<locals>" in method.__qualname__:
        raise InputError(f"method {method.__qualname__}: is defined inside a function; define it in a module")
    return f"{method.__module__}:{method.__qualname__}"


def short_name(name: str) -> str:
    """The class's name without its module, for tables and file names."""
    return name.rpartition(":")[2]


def option_names(name: str) -> set[str]:
    """The options that a method takes.

    Raises:
        InputError: there is no such method.
    """
    parameters = inspect.signature(find_method(name).__init__).parameters.values()
    return {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}


def complete_options(name: str, given: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All keywords that build a method's head: the facts that it asks for, and its options with their defaults.

    Args:
        name: name of the method.
        given: options that the user set.
        facts: facts about data and encoder, `num_labels` and `stage_widths`; None if a fact is not known.

    Raises:
        InputError: there is no such method or option, a value has the wrong type, or a needed fact is not known.
    """
    method = find_method(name)
    parameters = inspect.signature(method.__init__).parameters
    hints = get_type_hints(method.__init__)
    options = {key: item for key, item in parameters.items() if item.kind is item.KEYWORD_ONLY}
    title = short_name(name)
    if unknown := given.keys() - options.keys():
        raise InputError(
            f"option {', '.join(sorted(unknown))}: {title} has none of that name; it takes "
            f"{', '.join(f'{key}={item.default}' for key, item in options.items()) or 'no options'}"
        )
    chosen = {}
    for key in parameters.keys() - options.keys() - {"self", "width", "k_bits"}:
        if key not in facts:
            raise InputError(
                f"method {name}: its constructor asks for {key}; expected width, k_bits, {', '.join(facts)}, and "
                "its own options after *"
            )
        if facts[key] is None:
            raise InputError(f"`method` {name}: needs {key}, which the features or the encoder do not have")
        chosen[key] = facts[key]
    for key, item in options.items():
        if key in given:
            chosen[key] = as_type(given[key], hints.get(key, Any), f"`method_options` {key}={given[key]}")
        elif item.default is item.empty:
            raise InputError(f"`method` {name}: needs its option {key}; give `method_options` {key}=VALUE")
        else:
            chosen[key] = item.default
    return chosen
