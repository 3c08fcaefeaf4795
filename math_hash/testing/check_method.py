"""A test of the whole contract of methods on one class, at toy size."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from math_hash.cli import main_py
from math_hash.data import open_image, read_dataset, split_rows
from math_hash.encoders import Features
from math_hash.methods import Method, Needs, TrainingSet, complete_options, name_of
from math_hash.methods.registry import option_names
from math_hash.models.load import load_model
from math_hash.testing.double_precision import recorded_training
from math_hash.testing.tiny import ON_CPU, launcher, make_tiny_dataset, without_figures, write_tiny_clip
from math_hash.training.distributed import gather_tree
from math_hash.training.run_folder import Run
from math_hash.training.tracking import Log

WIDTH, BITS, LABELS, TRAINING_ROWS, STAGE_WIDTHS = 64, 12, 3, 31, (64, 64)


class _Killed(BaseException):
    pass


def check_method(method: type[Method], options: Mapping[str, Any] | None = None, *, processes: int = 2) -> None:
    """Test a class against the whole contract of `math_hash.methods.Method`; takes about a minute on a CPU.

    It checks that codes need one modality alone and do not depend on the rest of the batch; that loss terms and their
    gradients are finite; that a model trained on a tiny dataset with a tiny CLIP can be saved, opened and used; that a
    killed and resumed run ends with the same weights; and that several processes compute the same as one, in double
    precision.

    Args:
        method: the class, defined in a module.
        options: options of the method that differ from its defaults, name -> value.
        processes: how many processes are compared with one; 1 skips this check.

    Raises:
        AssertionError: the method breaks its contract; the message says how.
        InputError: its constructor has a parameter that is not provided, or an option has the wrong type.
    """
    given = dict(options or {})
    _check_declaration(method)
    torch.manual_seed(0)
    facts = {"num_labels": LABELS, "stage_widths": STAGE_WIDTHS}
    head = method(WIDTH, BITS, **complete_options(name_of(method), given, facts))
    assert head.k_bits == BITS, f"k_bits is {head.k_bits}; expected {BITS}, as given to the constructor"
    if method.trained_by_gradient:
        _check_step(head)
    else:
        head.fit(torch.randn(50, WIDTH), torch.randn(50, WIDTH), seed=1)
    _check_codes(head)
    with tempfile.TemporaryDirectory() as place, without_figures():
        _check_runs(method, given, Path(place), processes)


def _check_declaration(method: type[Method]) -> None:
    assert issubclass(method, Method), f"{method!r} is not a subclass of Method"
    assert isinstance(method.needs, Needs), f"needs is {method.needs!r}; expected math_hash.methods.Needs(...)"
    learned = {stream for turn in method.turns for stream in turn}
    assert learned == set(method.streams), f"turns update {sorted(learned)}, but streams are {sorted(method.streams)}"


def _features(rows: int, needs: Needs, seed: int) -> dict[str, Features]:
    """Random features of images, texts of several lengths, and texts of labels."""
    generator = torch.Generator().manual_seed(seed)

    def stream(tokens: int, lengths: Tensor | None) -> Features:
        states = torch.randn(rows, tokens, WIDTH, generator=generator)
        pooled = torch.randn(rows, WIDTH, generator=generator)
        stages = torch.randn(rows, 4, WIDTH, generator=generator)
        padding = None if lengths is None else torch.arange(tokens) >= lengths[:, None]
        return Features(states, pooled, padding, stages, batch=pooled if needs.batch else None)

    lengths = torch.randint(2, 8, (rows,), generator=generator)
    return {"image": stream(4, None), "text": stream(7, lengths), "label": stream(7, lengths)}


def _check_step(head: Method) -> None:
    """One step of each turn on random features."""
    rows, b = torch.arange(5) * 2, 5
    labels = (torch.rand(TRAINING_ROWS, LABELS, generator=torch.Generator().manual_seed(1)) < 0.5).to(torch.uint8)
    widths = head.banks
    assert widths.get("image") == widths.get("text") == BITS, f"banks are {widths}; expected image and text of {BITS}"
    bank = {name: torch.randn(TRAINING_ROWS, width) for name, width in widths.items()}
    head.prepare(TrainingSet(torch.randn(TRAINING_ROWS, WIDTH), torch.randn(TRAINING_ROWS, WIDTH), labels))
    head.on_epoch(1, 2, bank)
    for turn in head.turns:
        head.zero_grad()
        streams = _features(b, head.needs, seed=2)
        if not head.needs.label_text:
            streams["label"] = Features(None, labels[rows].float())
        outputs = gather_tree(head.outputs({stream: streams[stream] for stream in turn}, labels[rows]), b)
        codes = head.bank_codes(outputs)
        assert codes.keys() <= bank.keys(), f"bank_codes names {sorted(codes)}, but banks are {sorted(widths)}"
        for name, value in codes.items():
            shape = (b, widths[name])
            assert value.shape == shape, f"bank_codes of {name}: shape {tuple(value.shape)}; expected {shape}"
            bank[name][rows] = value.detach()
        terms = head.loss_terms(outputs, bank, labels, rows)
        for name, term in terms.items():
            assert term.shape == (), f"loss term {name}: shape {tuple(term.shape)}; expected a scalar"
            assert bool(term.isfinite()), f"loss term {name}: {term}; expected a finite number"
        torch.stack(list(terms.values())).sum().backward()
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        assert gradients, f"turn {turn}: no parameter has a gradient"
        assert all(bool(g.isfinite().all()) for g in gradients), f"turn {turn}: a gradient is not finite"


def _check_codes(head: Method) -> None:
    """Codes need one modality alone and do not depend on the rest of the batch."""
    head.eval()
    streams = _features(9, replace(head.needs, batch=False), seed=3)
    for name, hash_one in (("image", head.hash_image), ("text", head.hash_text)):
        features = streams[name]
        alone = features.of_rows(torch.tensor([2]))
        with torch.no_grad():
            whole, single = hash_one(features), hash_one(alone)
        assert whole.shape == (9, BITS), f"hash_{name}: shape {tuple(whole.shape)}; expected {(9, BITS)}"
        assert float(whole.abs().max()) <= 1, f"hash_{name}: codes are outside (-1, 1)"
        difference = float((single - whole[2:3]).abs().max())
        assert difference < 1e-4, f"hash_{name}: a row's code changes by {difference:.1e} with the rest of its batch"


def _check_runs(method: type[Method], options: dict[str, Any], place: Path, processes: int) -> None:
    dataset, weights = make_tiny_dataset(place / "tiny"), write_tiny_clip(place / "clip.safetensors")
    settings = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    flags = [
        "--is-train", "--method", name_of(method), "--dataset-root", str(place), "--dataset", "tiny",
        "--clip-path", str(weights), "--resolution", "32", "--max-words", "12", "--query-num", "10",
        "--train-num", "40", "--val-num", "9", "--batch-size", "7", "--epochs", "2", "--clip-lr", "0.0003",
        "--num-workers", "0", "--k-bits", str(BITS), "--tracker", *(["--set", *settings] if settings else []),
    ]  # fmt: skip
    assert main_py([*flags, "--save-dir", str(place / "run")]) == 0, "the training failed; see its message"
    _check_model(place / "run", dataset)
    if method.trained_by_gradient:
        _check_resuming(flags, place)
        if processes > 1:
            if "dropout" in option_names(name_of(method)):  # each process draws its own
                flags += ["--set", *settings, "dropout=0"]
            _check_processes(flags, place, processes)


def _check_model(run: Path, dataset: Path) -> None:
    """A saved model can be opened and encodes each modality alone."""
    data, rows = read_dataset(dataset), split_rows(60, 10, 40, 9).query
    model, again = load_model(run), load_model(run)
    texts = [data.captions[row] for row in rows]
    images = model.encode_image([open_image(data.image_path(row)) for row in rows], output="continuous")
    assert images.shape == (10, BITS), f"codes of 10 images have shape {images.shape}"
    assert np.isfinite(images).all(), "a code is not finite after training"
    assert len(np.unique(images >= 0, axis=0)) > 1, "all images have the same code after training"
    codes = again.encode_text(texts, output="continuous")
    assert np.array_equal(codes, model.encode_text(texts, output="continuous")), "a model opened twice differs"


def _check_resuming(flags: list[str], place: Path) -> None:
    """A run that is killed after its first epoch and resumed ends with the same weights."""
    finished = Log.epoch

    def kill(log: Log, record: dict[str, Any]) -> None:
        finished(log, record)
        raise _Killed

    try:
        with patch.object(Log, "epoch", kill):
            main_py([*flags, "--save-dir", str(place / "killed")])
    except _Killed:
        pass
    assert main_py(["--is-train", "--resume", str(place / "killed")]) == 0, "the killed run cannot be resumed"
    whole, resumed = ((place / name / "model.safetensors").read_bytes() for name in ("run", "killed"))
    assert whole == resumed, (
        "a killed and resumed run ends with different weights; is there state outside parameters and buffers, or "
        "randomness that is not PyTorch's?"
    )


def _check_processes(flags: list[str], place: Path, processes: int) -> None:
    """Several processes compute what one does; in double precision, at rates so small that rounding does not grow."""
    flags = [*flags, "--lr", "0.00001", "--clip-lr", "0.000003"]
    one, many = place / "one", place / "many"
    with recorded_training():
        assert main_py([*flags, "--save-dir", str(one)]) == 0
    runs = json.dumps({"run": [*flags, "--save-dir", str(many)]})
    command = [*launcher(processes), "-m", "math_hash.testing.double_precision", runs, str(place)]
    environment = os.environ | ON_CPU | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{processes} processes fail:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    for first, second in zip(Run(one).read_metrics(), Run(many).read_metrics(), strict=True):
        for name, loss in first["losses"].items():
            other = second["losses"][name]
            assert abs(other - loss) <= 1e-7 * abs(loss) + 1e-9, (
                f"{processes} processes: loss {name} of epoch {first['epoch']} is {other:.9g}, of one {loss:.9g}; "
                "does the objective use more than the gathered outputs?"
            )
