"""What a method needs of the data and of the encoder."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Needs:
    """What is read, computed and kept for a method; what it does not need is left out.

    Attributes:
        labels: 0/1 rows of labels; a method without them also trains on a dataset that has none.
        tokens: states of each token, beside the pooled vectors.
        stages: pooled states of four depths of each tower.
        label_text: the names of an instance's labels, encoded as a third text.
        padding: tokens that no text of a batch has; without it, batches are cut to their longest text.
        batch: the pooled vectors of a whole training batch, the rows of all processes, beside each process's own.

    Raises:
        TypeError: a value is not a bool, or there is no such need.
    """

    labels: bool = True
    tokens: bool = False
    stages: bool = False
    label_text: bool = False
    padding: bool = False
    batch: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            if not isinstance(value := getattr(self, item.name), bool):
                raise TypeError(f"Needs({item.name}={value!r}): expected True or False")


POOLED = Needs(labels=False)
EVERYTHING = Needs(tokens=True, stages=True, label_text=True, padding=True)
