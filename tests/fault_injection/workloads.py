"""What is written while calls fail: each workload prepares a folder, writes into it, and tells whether all is there."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from math_hash import InputError
from math_hash.data import read_dataset, write_dataset
from math_hash.encoders.clip import ClipEncoder
from math_hash.files import require_sums, sums_of
from math_hash.models.model import HashModel
from math_hash.retrieval import codes_folder, filling, open_index, shards
from math_hash.retrieval.codes_folder import CodesFolder
from math_hash.retrieval.encode import encode_collection
from math_hash.retrieval.engines.embedded.repair import check
from math_hash.testing.tiny import TINY
from math_hash.training.run_folder import Run

Acknowledge = Callable[[str], None]
codes_folder._ROWS, shards.SHARD_ROWS = 10, 2
_CODES = np.random.default_rng(0).integers(0, 256, (100, 2), np.uint8)


class Workload:
    """Base: `prepare` once, `act` under faults, `verify` after them, `again` without them, then `verify` all of it."""

    everything: tuple[str, ...] = ()  # what `act` acknowledges when nothing fails

    def prepare(self, folder: Path) -> None:
        """Write what is there before."""

    def act(self, folder: Path, acknowledge: Acknowledge) -> None:
        """Write, and acknowledge what is done."""

    def verify(self, folder: Path, acknowledged: set[str]) -> None:
        """Assert that all acknowledged things are there, and no half of anything."""

    def again(self, folder: Path) -> None:
        """The next run, which succeeds."""

    def tidy(self, folder: Path) -> None:
        """Assert that the next run has left nothing behind."""
        left = [path.name for path in folder.rglob(".*") if path.name.split(".")[-1] in ("tmp", "new", "old", "parts")]
        assert not left, left


class Adding(Workload):
    """Three calls of `add` and a `delete`, on an index with a snapshot."""

    everything = ("add 50", "add 60", "add 70", "delete")

    def prepare(self, folder):
        with open_index(folder / "i", 16) as index:
            index.add(range(50), _CODES[:50], [{"n": row} for row in range(50)])
            index.save()

    def act(self, folder, acknowledge):
        with open_index(folder / "i") as index:
            for start in (50, 60, 70):
                rows = range(start, start + 10)
                index.add(rows, _CODES[start : start + 10], [{"n": row} for row in rows])
                acknowledge(f"add {start}")
            index.delete(range(5))
            acknowledge("delete")

    def verify(self, folder, acknowledged):
        assert check(str(folder / "i")) == []
        with open_index(folder / "i") as index:
            rows = index.rows(range(80))
            assert len(index) == sum(row is not None for row in rows) == len(index.search(_CODES[:1], 100)[0])
        for number, row in enumerate(rows):
            assert row is None or ((row[0] == _CODES[number]).all() and row[1] == {"n": number})
        there = [row is not None for row in rows]
        assert all(there[5:50])
        assert not any(there[:5]) if "delete" in acknowledged else len(set(there[:5])) == 1
        for start in (50, 60, 70):
            some = there[start : start + 10]
            assert all(some) or not (f"add {start}" in acknowledged or any(some))

    def again(self, folder):
        with open_index(folder / "i") as index:
            for start in (50, 60, 70):
                if index.rows([start]) == [None]:
                    rows = range(start, start + 10)
                    index.add(rows, _CODES[start : start + 10], [{"n": row} for row in rows])
            index.delete(range(5))
            index.save()

    def tidy(self, folder):
        names = {path.name for path in (folder / "i").iterdir()} - {"rows.sqlite", "rows.sqlite-wal", "rows.sqlite-shm"}
        assert len(names) == 1, names


class Saving(Adding):
    """`save` after rows were added and deleted."""

    everything = ("add 50", "add 60", "add 70", "delete")

    def prepare(self, folder):
        super().prepare(folder)
        super().act(folder, lambda _: None)

    def act(self, folder, acknowledge):
        for done in self.everything:
            acknowledge(done)
        with open_index(folder / "i") as index:
            index.save()


class Filling(Workload):
    """`math-hash index`, which is continued."""

    everything = ("filled",)

    def prepare(self, folder):
        (folder / "codes").mkdir()
        np.save(folder / "codes/codes.npy", _CODES[:40])
        lines = [json.dumps({"id": str(n), "metadata": {"n": n}}) for n in range(40)]
        (folder / "codes/rows.jsonl").write_text("\n".join(lines))
        config = {"format": 1, "k_bits": 16, "model": "m", "count": 40, "sha256": sums_of(folder / "codes")}
        (folder / "codes/config.json").write_text(json.dumps(config))

    def act(self, folder, acknowledge):
        with open_index(folder / "i", 16, "m") as index:
            filling.fill(index, CodesFolder.open(folder / "codes"))
        acknowledge("filled")

    def verify(self, folder, acknowledged):
        if not acknowledged:
            return
        assert check(str(folder / "i")) == []
        with open_index(folder / "i") as index:
            ids, codes = index.all_codes()
            assert ids.tolist() == [str(n) for n in range(40)]
            assert (codes == _CODES[:40]).all()
            assert index.unfinished == ""

    def again(self, folder):
        with open_index(folder / "i", 16, "m") as index:
            if index.unfinished or not len(index):
                filling.fill(index, CodesFolder.open(folder / "codes"))


class Building(Workload):
    """A dataset's folder, written over an older one."""

    everything = ("built",)

    def _write(self, folder, text):
        labels = np.eye(4, dtype=np.uint8)
        write_dataset(
            folder / "d", images=list("abcd"), captions=[text] * 4, labels=labels, label_names=list("wxyz"),
            protocol="own", members=np.full((4, 2), -1), texts=[[text, "more"]] * 4,
        )  # fmt: skip

    def prepare(self, folder):
        self._write(folder, "old")

    def act(self, folder, acknowledge):
        self._write(folder, "new")
        acknowledge("built")

    def verify(self, folder, acknowledged):
        dataset = read_dataset(folder / "d")
        require_sums(folder / "d", dataset.manifest["sha256"])
        assert dataset.captions in ([["new"] * 4] if acknowledged else [["new"] * 4, ["old"] * 4])
        assert dataset.texts == [[dataset.captions[0], "more"]] * 4

    def again(self, folder):
        self._write(folder, "new")


class Checkpointing(Workload):
    """A run's checkpoint, written over the one of the epoch before, and its metrics."""

    everything = ("metrics", "checkpoint")

    def _write(self, folder, epoch, acknowledge):
        run = Run(folder)
        run.write_metrics([{"epoch": number + 1} for number in range(epoch)])
        acknowledge("metrics")
        run.save_checkpoint({"epoch": epoch, "weights": torch.full((300,), float(epoch))})
        acknowledge("checkpoint")

    def prepare(self, folder):
        self._write(folder, 1, lambda _: None)

    def act(self, folder, acknowledge):
        self._write(folder, 2, acknowledge)

    def verify(self, folder, acknowledged):
        state = Run(folder).load_checkpoint()
        assert state["epoch"] in ([2] if "checkpoint" in acknowledged else [1, 2])
        assert (state["weights"] == state["epoch"]).all()
        assert len(Run(folder).read_metrics()) in ([2] if "metrics" in acknowledged else [1, 2])

    def again(self, folder):
        Run(folder).remove_abandoned()  # as resuming does
        self._write(folder, 2, lambda _: None)


class Encoding(Workload):
    """`math-hash encode` of texts, in shards."""

    everything = ("encoded",)

    def __init__(self):
        torch.manual_seed(0)
        self.model = HashModel(ClipEncoder(TINY), "MATH", 16, {"transformer_layers": 1}, 12).eval()
        self.wanted = None

    def prepare(self, folder):
        (folder / "texts.txt").write_text("".join(f"text number {n}\n" for n in range(7)))
        self._encode(folder, "wanted")
        self.wanted = self._sums(folder / "wanted")

    def _encode(self, folder, name):
        encode_collection(self.model, folder / "texts.txt", folder / name, num_workers=0, progress=False)

    def _sums(self, folder):
        return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("codes.npy", "rows.jsonl")}

    def act(self, folder, acknowledge):
        self._encode(folder, "codes")
        acknowledge("encoded")

    def verify(self, folder, acknowledged):
        if acknowledged or (folder / "codes").exists():
            CodesFolder.open(folder / "codes")
            assert self._sums(folder / "codes") == self.wanted

    def again(self, folder):
        complete = (folder / "codes").exists()  # then the next run is refused
        with pytest.raises(InputError, match="is there already") if complete else contextlib.nullcontext():
            self._encode(folder, "codes")


WORKLOADS = {kind.__name__: kind for kind in (Adding, Saving, Filling, Building, Checkpointing, Encoding)}


@contextlib.contextmanager
def quiet():
    """Warnings are no matter here: an index that is unfinished says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
