"""One table of several methods, trained and evaluated in the same way."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from math_hash.config import Config
from math_hash.data import POOLED
from math_hash.evaluation import average_precision, cosine_mean_average_precision, normalized_score, paired_bootstrap
from math_hash.evaluation.exports import DIRECTIONS, read_export
from math_hash.evaluation.own_pair_recall import mean_recall_at_10
from math_hash.files import atomic_writer, read_json, write_text
from math_hash.training.evaluate import encoder_vectors
from math_hash.training.published import provenance_page, published_page
from math_hash.training.run_folder import CONFIG, METRICS, RESULTS
from math_hash.training.runtime import make_accelerator
from math_hash.training.setup import new_encoder, open_data

CROSS = ("image->text", "text->image")
REFERENCE = "MATH"  # what the other methods are compared with


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    method: str
    k_bits: int
    seed: int
    folder: Path
    lr: float | None = None  # None: of the method's preset

    @property
    def is_finished(self) -> bool:
        return (self.folder / RESULTS).is_file()

    @property
    def is_started(self) -> bool:
        return (self.folder / CONFIG).is_file()

    def results(self) -> dict[str, Any]:
        """Its `results.json`, with the best score on validation rows."""
        path = self.folder / METRICS
        epochs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        found = read_json(self.folder / RESULTS)
        found["validation"] = max((epoch["score"] for epoch in epochs if "score" in epoch), default=0.0)
        return found

    def average_precisions(self) -> np.ndarray:
        """Float64 (queries,): AP of each query, the mean of both cross-modal directions."""
        return _average_precisions(next((self.folder / "PR_curve").glob("*.mat")))


@cache
def _average_precisions(path: Path) -> np.ndarray:
    export = read_export(path)
    labels = export.query_labels, export.database_labels
    pairs = (("q_img", "r_txt"), ("q_txt", "r_img"))
    found = [
        average_precision(export.codes[query], export.codes[database], *labels, k_bits=export.k_bits)
        for query, database in pairs
    ]
    return np.mean(found, axis=0)


def float_reference(config: Config, folder: Path) -> dict[str, float]:
    """mAP of the encoder's untrained pooled vectors by float cosine, in each direction; kept in `float_cosine.json`.

    Raises:
        InputError: something is wrong with the data or the encoder.
    """
    path = folder / "float_cosine.json"
    if not path.is_file():
        data = open_data(config)
        torch.manual_seed(config.seed)
        encoder = new_encoder(config, data.features)
        accelerator = make_accelerator(config)
        rows = np.union1d(data.split.query, data.split.database)
        vectors = encoder_vectors(
            encoder.to(accelerator.device),
            data.pairs_for(encoder, config.max_words, POOLED),
            rows,
            accelerator,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
        )
        query, database = (np.searchsorted(rows, part) for part in (data.split.query, data.split.database))
        labels = data.folder.labels
        precision = {
            name: cosine_mean_average_precision(
                vectors[a][query], vectors[b][database], labels[data.split.query], labels[data.split.database]
            )
            for name, (a, b) in DIRECTIONS.items()
        }
        write_text(path, json.dumps(precision, indent=2) + "\n")
    return read_json(path)


def write_leaderboard(cells: Sequence[Cell], folder: Path, config: Config, reference: dict[str, float]) -> None:
    """Write `leaderboard.md` and `leaderboard.png` for the finished cells.

    Args:
        reference: the result of `float_reference`.

    Raises:
        InputError: a result is damaged, or a file cannot be written.
    """
    finished: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells:
        if cell.is_finished:
            finished.setdefault((cell.k_bits, cell.method), []).append(cell)
    write_text(folder / "leaderboard.md", _page(finished, config, reference))
    _plot(folder / "leaderboard.png", {place: [cell.results() for cell in found] for place, found in finished.items()})


def _page(finished: dict[tuple[int, str], list[Cell]], config: Config, reference: dict[str, float]) -> str:
    first = next(iter(finished.values()))[0].results()
    rates = sorted({cell.lr for cells in finished.values() for cell in cells if cell.lr})
    counts = f"{first['queries']} queries, {first['database']} database rows, {first['training_rows']} training rows"
    setting = (
        f"Protocol `{first['protocol']}`: {counts}, which are in the database. Encoder: {_encoder(config)}. "
        f"{config.epochs} epochs, unless a method's preset says otherwise, batches of {config.batch_size}, precision "
        f"{config.precision}; the epoch is chosen on "
        f"{first['selected_on']}. mAP over the whole database, mean and standard deviation over seeds. Own-pair R@10: "
        "the share of queries whose own partner is among the first ten of the queries' partners, the mean of both "
        "cross-modal directions. The score is "
        "the mean of both cross-modal directions on a scale from the chance level (0) to a perfect ranking (1). "
        f"Against {REFERENCE}: the difference in mAP, a mean over both cross-modal directions and all seeds, and "
        "its 95 % interval by a paired bootstrap over queries. The column lr has the learning rate that gave the best "
        f"validation score of those in {{{', '.join(f'{rate:g}' for rate in rates)}}}, tried with seed 1 at the first "
        "length; where it is empty, it is the preset's. Float cosine compares the encoder's own vectors, neither "
        "trained nor hashed."
    )
    lines = [f"# Leaderboard: {config.dataset}", "", *wrap(setting, 116), "", "![mAP against bits](leaderboard.png)"]
    for k_bits in sorted({bits for bits, _ in finished}):
        lines += _table(
            {method: cells for (bits, method), cells in finished.items() if bits == k_bits}, k_bits, reference
        )
    methods = list(dict.fromkeys(method for _, method in finished))
    return "\n".join([*lines, "", *provenance_page(methods), "", *published_page(), ""])


def _table(finished: dict[str, list[Cell]], k_bits: int, reference: dict[str, float]) -> list[str]:
    lines = [
        "",
        f"## {k_bits} bits",
        "",
        f"| method | {' | '.join(DIRECTIONS)} | own-pair R@10 | score | against {REFERENCE} | runs | lr | head |",
        "|" + " --- |" * (len(DIRECTIONS) + 7),
    ]
    results = {method: [cell.results() for cell in cells] for method, cells in finished.items()}
    for method, runs in sorted(results.items(), key=lambda row: -_score(row[1])):
        values = [_mean_and_deviation([run["mAP"].get(name) for run in runs]) for name in DIRECTIONS]
        values.append(_mean_and_deviation([_own_pair_recall(run) for run in runs]))
        rate = finished[method][0].lr
        lines.append(
            f"| {method} | {' | '.join(values)} | {_score(runs):.3f} | {_difference(finished, method)} | {len(runs)} "
            f"| {rate or ''} | {runs[0]['head_parameters'] / 1e6:.2f} M |"
        )
    floats = " | ".join(f"{reference[name]:.4f}" for name in DIRECTIONS)
    floor = f"{next(iter(results.values()))[0]['floor']:.4f}"
    rest = " |" * 7
    return [*lines, f"| float cosine | {floats}{rest}", f"| chance level | {' | '.join([floor] * 4)}{rest}"]


def _own_pair_recall(run: dict[str, Any]) -> float | None:
    """Own-pair recall@10, the mean of both directions; None where an earlier version evaluated the run."""
    return mean_recall_at_10(run["own_pair_recall"]) if "own_pair_recall" in run else None


def _difference(finished: dict[str, list[Cell]], method: str) -> str:
    """Mean AP of a method minus MATH's, over the seeds that both have, with its 95 % interval."""
    seeds = {cell.seed: cell for cell in finished.get(REFERENCE, [])}
    pairs = [(seeds[cell.seed], cell) for cell in finished[method] if cell.seed in seeds]
    if method == REFERENCE or not pairs:
        return ""
    ours, theirs = (np.mean([cell.average_precisions() for cell in of], axis=0) for of in zip(*pairs, strict=True))
    found = paired_bootstrap(ours, theirs)
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _encoder(config: Config) -> str:
    """The source of the features, in words."""
    if not config.features:
        return f"`{config.encoder or config.clip_path}`" + (", frozen" if config.freeze_encoder else "")
    path = Path(config.features) / "features.json"
    described = read_json(path) if path.is_file() else {}
    named = " and ".join(str(described[name]) for name in ("image", "text") if name in described)
    return f"none; stored features of {named or f'`{config.features}`'}"


def _mean_and_deviation(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return ""
    return f"{np.mean(numbers):.4f}" + (f" ± {np.std(numbers, ddof=1):.4f}" if len(numbers) > 1 else "")


def _score(runs: list[dict[str, Any]]) -> float:
    cross = [np.mean([run["mAP"][name] for name in CROSS]) for run in runs]
    return float(np.mean([normalized_score(mean, run["floor"]) for mean, run in zip(cross, runs, strict=True)]))


def _plot(path: Path, finished: dict[tuple[int, str], list[dict[str, Any]]]) -> None:
    """One panel per code length, one line per method: mAP in both cross-modal directions, best method on top."""
    lengths = sorted({bits for bits, _ in finished})
    most = max(sum(bits == k_bits for bits, _ in finished) for k_bits in lengths)
    figure = Figure(figsize=(5.2 * len(lengths), 1.4 + 0.24 * most), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep every figure of a process, and may open windows
    for axis, k_bits in zip(figure.subplots(1, len(lengths), squeeze=False)[0], lengths, strict=True):
        rows = sorted(
            ((method, runs) for (bits, method), runs in finished.items() if bits == k_bits),
            key=lambda row: _score(row[1]),
        )
        for direction, marker in zip(CROSS, "os", strict=True):
            values = [[run["mAP"][direction] for run in runs] for _, runs in rows]
            spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
            means = [np.mean(v) for v in values]
            axis.errorbar(means, range(len(rows)), xerr=spread, fmt=marker, ms=5, lw=1, capsize=2, label=direction)
        floor = rows[0][1][0]["floor"]
        axis.axvline(floor, color="gray", ls="--", lw=1, label="chance level")
        axis.set_yticks(range(len(rows)), [method for method, _ in rows])
        for tick in axis.get_yticklabels():
            tick.set_fontweight("bold" if tick.get_text() == REFERENCE else "normal")
        axis.set(title=f"{k_bits} bits", xlabel="mAP", ylim=(-0.7, len(rows) - 0.3))
        axis.grid(alpha=0.3)
    figure.get_axes()[0].legend(fontsize=8, loc="lower right")
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=110)
