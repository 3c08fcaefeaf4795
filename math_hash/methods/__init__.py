"""Hash methods by name. A method is one file; `METHODS` is the only place that lists them."""

import inspect
from typing import Any

from math_hash.errors import InputError
from math_hash.methods.djsrh import DJSRH
from math_hash.methods.math import MATH
from math_hash.methods.method import Method

METHODS: dict[str, type[Method]] = {"MATH": MATH, "DJSRH": DJSRH}
WITHOUT_LABELS = "DJSRH"  # what training falls back to where a dataset has no labels


def method_options(name: str, source: Any) -> dict[str, Any]:
    """Pick from `source`, an object such as `Config`, the options that the method's constructor takes.

    Raises:
        InputError: no method has that name.
    """
    if name not in METHODS:
        raise InputError(f"--method {name}: unknown; choose from {', '.join(METHODS)}")
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    return {item.name: getattr(source, item.name) for item in parameters if item.kind is item.KEYWORD_ONLY}


__all__ = ["METHODS", "WITHOUT_LABELS", "Method", "method_options"]
