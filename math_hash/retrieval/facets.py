"""What is in a collection: how often the values of its metadata occur, and the range of its numbers and dates."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from math_hash.retrieval.ids import Id
from math_hash.retrieval.index import Index

NAMED_ELSEWHERE = {"image", "member", "text"}  # fields that say what a row is, not what it has in common with others
MOST_FIELDS, MOST_VALUES, SHOWN_VALUES, LONGEST_VALUE = 50, 1000, 40, 80
FEW_DUPLICATES = 0.05  # share of rows with a near duplicate, up to which these can be folded
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])($|[T ])")


@dataclass
class FieldCount:
    """The values of a field, counted row by row.

    Attributes:
        values: texts and truth values with the number of rows that have them; None once there are too many to choose
            from.
        numbers, dates: the least and the greatest; None if there are none.
    """

    values: Counter[str | bool] | None = field(default_factory=Counter)
    numbers: tuple[float, float] | None = None
    dates: tuple[str, str] | None = None

    def add(self, value: Any) -> None:
        """Count a row that has this value, or the values of this list."""
        if isinstance(value, list):
            kept = dict.fromkeys(item for item in value if isinstance(item, str | bool))
            for item in kept:
                self._count(item)
        elif isinstance(value, bool):
            self._count(value)
        elif isinstance(value, int | float):
            least, most = self.numbers or (value, value)
            self.numbers = min(least, value), max(most, value)
        elif isinstance(value, str) and _DATE.match(value):
            first, last = self.dates or (value, value)
            self.dates = min(first, value), max(last, value)
        elif isinstance(value, str):
            self._count(value)

    def _count(self, value: str | bool) -> None:
        if self.values is not None and value != "":
            self.values[value] += 1
            if len(self.values) > MOST_VALUES or len(str(value)) > LONGEST_VALUE:
                self.values = None

    def facets(self, name: str, rows: int) -> list[dict[str, Any]]:
        """What tells rows apart, of all `rows`: values, unless all are different or equal, and ranges."""
        found: list[dict[str, Any]] = []
        if self.values and 1 < (shown := self.values.most_common(SHOWN_VALUES))[0][1] and shown[-1][1] < rows:
            values = [{"value": value, "count": count} for value, count in shown]
            found.append({"field": name, "kind": "values", "values": values, "distinct": len(self.values)})
        for kind, bounds in (("number", self.numbers), ("date", self.dates)):
            if bounds and bounds[0] < bounds[1]:  # type: ignore[operator]
                found.append({"field": name, "kind": kind, "min": bounds[0], "max": bounds[1]})
        return found


class FieldCounter:
    """Counts the fields of metadata objects.

    Example:
        >>> counter = FieldCounter()
        >>> for label, year in (["dog"], 2020), (["dog", "sea"], 2024):
        ...     counter.add({"label": label, "year": year})
        >>> [(facet["field"], facet["kind"]) for facet in counter.facets()]
        [('label', 'values'), ('year', 'number')]
    """

    def __init__(self) -> None:
        self._fields: defaultdict[str, FieldCount] = defaultdict(FieldCount)
        self.rows = 0

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Count a row. Names that no filter can have are left out, and so are new ones once there are many."""
        self.rows += 1
        for name, value in metadata.items():
            is_new = name not in self._fields
            if name in NAMED_ELSEWHERE or '"' in name or "\\" in name or (is_new and len(self._fields) >= MOST_FIELDS):
                continue
            self._fields[name].add(value)

    def facets(self) -> list[dict[str, Any]]:
        """The fields that can be chosen from, in the form of the server's answer."""
        return [facet for name, values in self._fields.items() for facet in values.facets(name, self.rows)]


def folding_radius(index: Index, ids: list[Id]) -> int | None:
    """The Hamming distance at which results are near duplicates: up to a bit in 32, where few rows have another there.

    Codes that were trained with labels bring many rows of the same labels together, which are no duplicates.

    Args:
        ids: a sample of the rows.

    Returns:
        None where even at distance 0 more than 5 % of the sample have another row.
    """
    if not ids:
        return None
    neighbors = index.search_batch(index.codes_of(ids), top_k=2)  # the row itself, and another one
    nearest = neighbors.distances[:, 1]
    for radius in range(index.k_bits // 32, -1, -1):
        if np.mean((nearest >= 0) & (nearest <= radius)) <= FEW_DUPLICATES:
            return radius
    return None
