"""The evaluation protocols that published results use, by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Sizes of a protocol: all rows, labels, queries, training rows. The database is all rows but the queries."""

    rows: int
    labels: int
    queries: int
    train: int


PROTOCOLS = {
    "flickr25k": Protocol(20015, 24, 2000, 10000),
    "flickr25k-24581": Protocol(24581, 24, 5000, 10000),
    "nuswide": Protocol(190421, 21, 2100, 10500),
    "nuswide-195834": Protocol(195834, 21, 2100, 10500),
    "coco": Protocol(122218, 80, 5000, 10000),
    "iaprtc12": Protocol(20000, 255, 2000, 10000),
    "demo": Protocol(4000, 20, 500, 3000),
}
OWN = "own"


def protocol_of(queries: int, database: int, labels: int) -> str:
    """The name of the protocol that has these sizes, or "own"."""
    for name, protocol in PROTOCOLS.items():
        if (protocol.queries, protocol.rows - protocol.queries, protocol.labels) == (queries, database, labels):
            return name
    return OWN
