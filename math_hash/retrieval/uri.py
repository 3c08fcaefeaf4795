"""Options that follow the question mark of an index's URI."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from math_hash.errors import InputError

STRUCTURES = ("bucket", "mih", "scan")  # of exact search in the embedded engine


def uri_options(uri: str, known: Mapping[str, type], keep_others: bool = False) -> tuple[str, dict[str, Any]]:
    """Split a URI from the options after its question mark, each converted to its type.

    Args:
        known: names of the options and their types.
        keep_others: leave unknown options in the URI instead of refusing them.

    Raises:
        InputError: an option is unknown or of another type.

    >>> uri_options("codes.index?engine=ivf&nlist=64", {"engine": str, "nlist": int})
    ('codes.index', {'engine': 'ivf', 'nlist': 64})
    """
    parts = urlsplit(uri)
    options: dict[str, Any] = {}
    others = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in known:
            try:
                options[name] = known[name](value)
            except ValueError as error:
                raise InputError(f"{uri}: {name}={value} is no {known[name].__name__}") from error
        elif keep_others:
            others.append((name, value))
        else:
            raise InputError(f"{uri}: unknown option {name}; expected {', '.join(known)}")
    return parts._replace(query=urlencode(others)).geturl(), options


@dataclass(frozen=True)
class IvfOptions:
    """Approximate search by an inverted file: codes are grouped, and a query looks into the nearest groups.

    Attributes:
        nlist: number of groups; None: the engine chooses.
        nprobe: number of groups that a query looks into; None: the engine chooses.
    """

    nlist: int | None = None
    nprobe: int | None = None


def ivf_options(uri: str, options: Mapping[str, Any]) -> IvfOptions | None:
    """The options of approximate search, where `engine=ivf` asks for it; None for exact search.

    Raises:
        InputError: they do not fit together, or are out of range.
    """
    engine = options.get("engine", "exact")
    if engine not in ("exact", "ivf"):
        raise InputError(f"{uri}: engine={engine}; expected exact or ivf")
    chosen: dict[str, int] = {name: options[name] for name in ("nlist", "nprobe") if name in options}
    if engine == "exact" and chosen:
        raise InputError(f"{uri}: nlist and nprobe belong to engine=ivf")
    if min(chosen.values(), default=1) < 1:
        raise InputError(f"{uri}: nlist and nprobe; expected 1 or more")
    return IvfOptions(**chosen) if engine == "ivf" else None


def structure_option(uri: str, options: Mapping[str, Any]) -> str | None:
    """The structure of exact search that `structure=` asks for; None: it is chosen from the codes.

    Raises:
        InputError: it is unknown, or search is approximate.
    """
    structure = options.get("structure")
    if structure is not None and structure not in STRUCTURES:
        raise InputError(f"{uri}: structure={structure}; expected {', '.join(STRUCTURES)}")
    if structure is not None and options.get("engine", "exact") != "exact":
        raise InputError(f"{uri}: structure belongs to engine=exact")
    return structure
