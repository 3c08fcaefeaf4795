"""The rows of a dataset as a reader of downloads hands them over, before the pictures are checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from math_hash.data.rejected import first_few
from math_hash.errors import InputError


@dataclass
class Source:
    """n rows as read from a download or a collection.

    Attributes:
        image_root: the folder that `images`, n paths, are relative to.
        texts: n lists of texts; a row may have none, or several.
        labels: uint8 (n, c) of 0/1, columns in the order of `label_names`.
        rejected: what was left out while reading: (which, why).
        members: places of pictures in tar files, as `DatasetFolder` has them.
        carried: everything in `image_root` is to be moved into the dataset's folder.
    """

    image_root: Path
    images: list[str]
    texts: list[list[str]]
    labels: np.ndarray
    label_names: list[str]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    members: np.ndarray | None = None
    carried: bool = False

    def rows(self, keep: np.ndarray) -> "Source":
        """The rows with these numbers."""
        return replace(
            self,
            images=[self.images[row] for row in keep],
            texts=[self.texts[row] for row in keep],
            labels=self.labels[keep],
            members=None if self.members is None else self.members[keep],
        )


def label_matrix(rows: Sequence[Sequence[str]], names: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """Multi-hot rows, uint8 (n, c), from n lists of label names.

    Args:
        rows: the label names of each row.
        names: the c columns, in order.
        where: for error messages: where the row with this number, from 0, came from.

    Raises:
        InputError: a row has a name that is not among `names`.

    >>> label_matrix([["cat"], [], ["dog", "cat"]], ["cat", "dog"], lambda row: f"line {row + 1}").tolist()
    [[1, 0], [0, 0], [1, 1]]
    """
    column = {name: place for place, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), np.uint8)
    for row, labels_of_row in enumerate(rows):
        for name in labels_of_row:
            if name not in column:
                raise InputError(f"{where(row)}: unknown label {name!r}; known are {first_few(names)}")
            labels[row, column[name]] = 1
    return labels
