"""Converting the values of a method's options to the types in its constructor."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from math_hash.errors import InputError


def as_type(value: Any, hint: Any, where: str) -> Any:
    """The value as the annotated type: bool, int, float, str, None, Literal, list, tuple, dict, or unions of these.

    An integer is accepted as a float and a list as a tuple; numbers and booleans may also be text, since YAML reads
    1e-3 as a string.

    Raises:
        InputError: the value is of another type.

    >>> as_type("1e-3", float, "margin=1e-3")
    0.001
    >>> as_type([64, 128], tuple[int, ...], "widths=[64,128]")
    (64, 128)
    """
    fitting, result = _converted(value, hint)
    if not fitting:
        raise InputError(f"{where}: expected {_spoken(hint)}, not {value!r}")
    return result


def _converted(value: Any, hint: Any) -> tuple[bool, Any]:
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return True, value
    if origin in (Union, types.UnionType):
        exact = [one for one in inside if type(value) is one or (one is type(None) and value is None)]
        attempts = (_converted(value, one) for one in (*exact, *inside))
        return next((attempt for attempt in attempts if attempt[0]), (False, None))
    if origin is Literal:
        return value in inside, value
    if origin in (list, tuple):
        return _sequence(value, origin, inside)
    if hint in (list, tuple, dict) or origin is dict:
        kind = origin or hint
        return isinstance(value, list | tuple if kind is not dict else dict), kind(value) if value is not None else None
    if hint is bool:
        words = {"true": True, "false": False}
        return isinstance(value, bool) or str(value).lower() in words, words.get(str(value).lower(), value)
    if hint in (int, float):
        return _number(value, hint)
    return isinstance(value, hint), value


def _sequence(value: Any, kind: type, inside: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, None
    if kind is tuple and Ellipsis not in inside:
        if len(value) != len(inside):
            return False, None
        items = [_converted(item, hint) for item, hint in zip(value, inside, strict=True)]
    else:
        items = [_converted(item, inside[0]) for item in value]
    return all(fitting for fitting, _ in items), kind(item for _, item in items)


def _number(value: Any, kind: type) -> tuple[bool, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False, None
    if kind is int and isinstance(value, float):
        return value.is_integer(), int(value) if value.is_integer() else None
    try:
        return True, kind(value)
    except ValueError:
        return False, None


def _spoken(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
