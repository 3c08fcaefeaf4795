"""One table of several methods, trained and evaluated in the same way."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from math_hash.config import Config
from math_hash.data import POOLED
from math_hash.evaluation import cosine_mean_average_precision, normalized_score
from math_hash.evaluation.exports import DIRECTIONS
from math_hash.files import atomic_writer, read_json, write_text
from math_hash.training.evaluate import pooled_vectors
from math_hash.training.run_folder import CONFIG, METRICS, RESULTS
from math_hash.training.runtime import make_accelerator
from math_hash.training.setup import new_encoder, open_data

CROSS = ("image->text", "text->image")

# figures from the methods' own papers: method -> bits -> (image->text, text->image), and their source
PUBLISHED = {
    "DCMH": (
        {16: (0.7410, 0.7827), 32: (0.7465, 0.7900), 64: (0.7485, 0.7932)},
        "Jiang and Li, CVPR 2017, table 2: CNN-F, MIRFlickr-25K of 20,015 rows, 2,000 queries, 10,000 training rows",
    ),
}


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    method: str
    k_bits: int
    seed: int
    folder: Path

    @property
    def is_finished(self) -> bool:
        return (self.folder / RESULTS).is_file()

    @property
    def is_started(self) -> bool:
        return (self.folder / CONFIG).is_file()

    def results(self) -> dict[str, Any]:
        """Its `results.json`, with `training_seconds` summed over the epochs."""
        path = self.folder / METRICS
        epochs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return {**read_json(self.folder / RESULTS), "training_seconds": sum(e["training_seconds"] for e in epochs)}


def float_reference(config: Config, folder: Path) -> dict[str, float]:
    """mAP of the encoder's untrained pooled vectors by float cosine, in each direction; kept in `float_cosine.json`.

    Raises:
        InputError: something is wrong with the data or the encoder.
    """
    path = folder / "float_cosine.json"
    if not path.is_file():
        data = open_data(config)
        torch.manual_seed(config.seed)
        encoder = new_encoder(config, data)
        accelerator = make_accelerator(config)
        rows = np.union1d(data.split.query, data.split.database)
        vectors = pooled_vectors(
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
    finished: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for cell in cells:
        if cell.is_finished:
            finished.setdefault((cell.k_bits, cell.method), []).append(cell.results())
    write_text(folder / "leaderboard.md", _page(finished, config, reference))
    _plot(folder / "leaderboard.png", finished)


def _page(finished: dict[tuple[int, str], list[dict[str, Any]]], config: Config, reference: dict[str, float]) -> str:
    first = next(iter(finished.values()))[0]
    setting = (
        f"Protocol `{first['protocol']}`, {first['queries']} queries, {first['database']} database rows, of which "
        f"{first['training_rows']} are training rows. Encoder: {_encoder(config)}. {config.epochs} epochs, batches of "
        f"{config.batch_size} (a method's preset may differ), precision {config.precision}; the epoch is chosen on "
        f"{first['selected_on']}. mAP over the whole database, mean and standard deviation over seeds; the chance "
        f"level is {first['floor']:.4f}. The score is the mean of both cross-modal directions on a scale from the "
        "chance level (0) to a perfect ranking (1). ITQ, PCA and LSH are fitted without labels, and DJSRH trains "
        "without them. Float cosine compares the encoder's own vectors, neither trained nor hashed."
    )
    lines = [f"# Leaderboard: {config.dataset}", "", *wrap(setting, 116), "", "![mAP against bits](leaderboard.png)"]
    for k_bits in sorted({bits for bits, _ in finished}):
        lines += [
            "",
            f"## {k_bits} bits",
            "",
            "| method | image->text | text->image | image->image | text->text | score | runs | training | head |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        rows = [(method, runs) for (bits, method), runs in finished.items() if bits == k_bits]
        for method, runs in sorted(rows, key=lambda row: -_score(row[1])):
            cells = [_mean_and_deviation([run["mAP"].get(name) for run in runs]) for name in DIRECTIONS]
            seconds = np.mean([run["training_seconds"] for run in runs])
            parameters = runs[0]["head_parameters"] / 1e6
            lines.append(
                f"| {method} | {' | '.join(cells)} | {_score(runs):.3f} | {len(runs)} | {seconds:.0f} s "
                f"| {parameters:.2f} M |"
            )
        floats = " | ".join(f"{reference[name]:.4f}" for name in DIRECTIONS)
        lines.append(f"| float cosine | {floats} | | | | |")
    lines += ["", "## Published figures", ""]
    for method, (figures, source) in PUBLISHED.items():
        listing = "; ".join(f"{bits} bits {a:.4f} / {b:.4f}" for bits, (a, b) in figures.items())
        lines.append(f"* {method} (image->text / text->image): {listing}. {source}.")
    lines.append("")
    return "\n".join(lines)


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
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep every figure of a process, and may open windows
    axes = figure.subplots(1, 2, sharey=True)
    methods = list(dict.fromkeys(method for _, method in finished))
    colors = colormaps["tab20"]
    for axis, direction in zip(axes, CROSS, strict=True):
        for place, method in enumerate(methods):
            points = sorted(
                (bits, [run["mAP"][direction] for run in runs]) for (bits, of), runs in finished.items() if of == method
            )
            bits, values = zip(*points, strict=True)
            means, spread = [np.mean(v) for v in values], [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
            axis.errorbar(bits, means, spread, marker="o", ms=4, lw=1.4, capsize=2, label=method, color=colors(place))
        floor = next(iter(finished.values()))[0]["floor"]
        axis.axhline(floor, color="gray", ls="--", lw=1)
        along = axis.get_yaxis_transform()  # x as a fraction of the axis, y as a value
        axis.text(0.99, floor, "chance level", transform=along, color="gray", va="bottom", ha="right", fontsize=8)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted({bits for bits, _ in finished}), sorted({bits for bits, _ in finished}))
        axis.set(title=direction, xlabel="bits")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP")
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=110)
