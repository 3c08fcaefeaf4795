"""Filters on metadata: which rows pass, and how a filter is written in a shell.

A filter `where` maps names of top-level fields to conditions, all of which a row has to meet:

| condition | rows that meet it |
| --- | --- |
| `"dog"`, `7`, `True` | the field equals it, or is a list that contains it |
| `["dog", "cat"]` | the field meets one of these |
| `{"min": 2015, "max": 2018}` | the field is a number from 2015 to 2018; one bound may be left out |
| `{"min": "2015-03", "max": "2016"}` | the field is a string between these in the order of characters, as dates are |
| `{"not": condition}` | all others, those without the field included |
| `{"all": [condition, ...]}` | the field meets all of these |

Numbers equal numbers of the same value; a number never equals a string, nor true and false.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from math_hash.errors import InputError
from math_hash.retrieval.ids import is_text

Scalar = str | int | float | bool
_MOST = 1000  # values of one condition
_SHOWN = 20  # fields in a message
_OTHER_NAMES = {"label": "labels", "labels": "label"}  # version 0.1 wrote `label`
_EXPECTED = "expected a string, a number, true or false, a list of these, or min and max, not, all"


class Bounds(NamedTuple):
    """From `low` to `high`, both included; None: unbounded. Both are numbers, or both strings."""

    low: Any
    high: Any


@dataclass(frozen=True)
class Clause:
    """A row passes if the field meets one of the options, or, where it is negated, none of them."""

    name: str
    options: tuple[Scalar | Bounds, ...]
    is_negated: bool = False

    def passes(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata passes."""
        value = metadata.get(self.name)
        return self.is_negated != any(_meets(value, option) for option in self.options)


def _meets(value: Any, option: Scalar | Bounds) -> bool:
    if isinstance(option, Bounds):
        bounds = [bound for bound in option if bound is not None]
        comparable = all(isinstance(bound, str) == isinstance(value, str) for bound in bounds)
        if not comparable or isinstance(value, bool) or not isinstance(value, str | int | float):
            return False
        low, high = option
        return (low is None or value >= low) and (high is None or value <= high)
    if isinstance(value, list):
        return any(_equal(member, option) for member in value)
    return _equal(value, option)


def _equal(value: Any, wanted: Scalar) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def clauses_of(where: Mapping[str, Any] | None) -> list[Clause]:
    """The clauses of a filter, all of which a row has to pass.

    Raises:
        InputError: it is of another form, see the module.

    >>> clauses_of({"year": {"not": [2015, {"max": 2000}]}})
    [Clause(name='year', options=(2015, Bounds(low=None, high=2000)), is_negated=True)]
    """
    clauses = []
    for name, condition in (where or {}).items():
        if not isinstance(name, str) or not name or not is_text(name):
            raise InputError(f"where: the name {name!r} cannot be filtered on; expected text")
        every = condition["all"] if _is_object(condition, "all") else [condition]
        _require_count(name, every)
        for one in every:
            is_negated = _is_object(one, "not")
            plain = one["not"] if is_negated else one
            options = plain if isinstance(plain, list | tuple) else [plain]
            _require_count(name, options)
            clauses.append(Clause(name, tuple(_option(name, option) for option in options), is_negated))
    return clauses


class _Fields(Protocol):
    """What an index tells of its rows' metadata."""

    uri: str

    def has_field(self, name: str) -> bool: ...

    def fields(self) -> set[str]: ...

    def __len__(self) -> int: ...


def clauses_for(index: _Fields, where: Mapping[str, Any] | None) -> list[Clause]:
    """The clauses of a filter for this index; `label` and `labels` stand for each other where it has one of them.

    Raises:
        InputError: it is of another form, or names a field that no row has.
    """
    return [replace(clause, name=_known_field(index, clause.name)) for clause in clauses_of(where)]


def _known_field(index: _Fields, name: str) -> str:
    for known in (name, _OTHER_NAMES.get(name)):
        if known and index.has_field(known):
            return known
    if not len(index):
        return name
    fields = ", ".join(sorted(index.fields())[:_SHOWN]) or "none"
    raise InputError(f"{index.uri}: no row has the field {name!r}; fields are {fields}")


def _require_count(name: str, values: Sequence[Any]) -> None:
    if not 1 <= len(values) <= _MOST:
        raise InputError(f"where {name!r}: {len(values)} values; expected 1 to {_MOST}")


def _is_object(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and list(value) == [key] and (key != "all" or isinstance(value[key], list))


def _option(name: str, value: Any) -> Scalar | Bounds:
    if isinstance(value, Mapping) and value and value.keys() <= {"min", "max"}:
        bounds = [_scalar(name, bound) for bound in value.values()]
        if len({isinstance(bound, str) for bound in bounds}) == 1 and not any(isinstance(b, bool) for b in bounds):
            return Bounds(value.get("min"), value.get("max"))
    return _scalar(name, value)


def _scalar(name: str, value: Any) -> Scalar:
    fits = isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63)
    if not fits or value != value or abs(value if isinstance(value, float) else 0) == float("inf"):
        raise InputError(f"where {name!r}: {str(value)[:80]!r}; {_EXPECTED}")
    if isinstance(value, str) and not is_text(value):
        raise InputError(f"where {name!r}: {value[:80]!r} is no text; {_EXPECTED}")
    return value


# ---- the form in a shell ----

_CONDITION = re.compile(r"([^=<>!]+)(>=|<=|!=|=)(.*)", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BOUND = r"[-+]?\d+(?:\.\d+)?|\d{4}-\d\d(?:-\d\d(?:[T ][\d:.]+)?)?"  # a number, or a date
_RANGE = re.compile(rf"({_BOUND})?\.\.({_BOUND})?")


def parse_filters(texts: Iterable[str]) -> dict[str, Any]:
    """The filter that conditions in a shell's form make together; docs/search.md describes the form.

    Raises:
        InputError: one is of another form.

    >>> parse_filters(["label=dog|cat", "year>=2015", "year!=2017"])
    {'label': ['dog', 'cat'], 'year': {'all': [{'min': 2015}, {'not': [2017, '2017']}]}}
    """
    conditions: dict[str, list[Any]] = {}
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if not match:
            raise InputError(f"`filter` {text}: expected NAME=VALUE, NAME!=VALUE, NAME>=VALUE or NAME<=VALUE")
        name, operator, value = match.groups()
        conditions.setdefault(name.strip(), []).append(_condition(text, operator, value))
    return {name: several[0] if len(several) == 1 else {"all": several} for name, several in conditions.items()}


def _condition(text: str, operator: str, value: str) -> Any:
    if operator in (">=", "<="):
        bound = json.loads(value) if _QUOTED.fullmatch(value) else _readings(value)[0]
        if isinstance(bound, bool) or "|" in value:
            raise InputError(f"`filter` {text}: expected a number, or text such as a date, after {operator}")
        return {"min" if operator == ">=" else "max": bound}
    options = [option for alternative in _alternatives(text, value) for option in alternative]
    condition = options[0] if len(options) == 1 else options
    return {"not": condition} if operator == "!=" else condition


def _alternatives(text: str, value: str) -> Iterable[list[Any]]:
    """What each of the values between | stands for; text in quotation marks is taken as it is."""
    while True:
        if quoted := _QUOTED.match(value):
            try:
                yield [json.loads(quoted[0])]
            except ValueError as error:
                raise InputError(f"`filter` {text}: {quoted[0]} is no JSON string ({error})") from error
            separator, value = value[quoted.end() :][:1], value[quoted.end() + 1 :]
        else:
            plain, separator, value = value.partition("|")
            yield _readings(plain)
        if separator not in ("", "|"):
            raise InputError(f'`filter` {text}: expected "|" or nothing after the quotation mark')
        if not separator:
            return


def _readings(plain: str) -> list[Any]:
    """A number or true and false, as such and as text, a range, or text."""
    if (match := _RANGE.fullmatch(plain)) and (match[1] or match[2]):
        bounds = {name: _readings(end)[0] for name, end in zip(("min", "max"), match.groups(), strict=True) if end}
        return [bounds]
    try:
        value = json.loads(plain)
    except ValueError:
        return [plain]
    fits = isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf"))
    return [value, plain] if fits and abs(value) < 2**63 else [plain]
