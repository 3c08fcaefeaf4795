"""Plots of evaluated exports."""

import io
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from math_hash.evaluation.exports import CROSS_MODAL, Evaluation
from math_hash.evaluation.significance import mean_and_deviation
from math_hash.hamming.codes import unpack


def figures(evaluations: list[Evaluation]) -> Iterator[tuple[str, Figure]]:
    """All plots of a report, by name: curves and mAP of all exports together, distances and bits of each."""
    yield "precision_recall", _curves(evaluations, "radius_recall", "radius_precision", "recall", "precision")
    yield "precision_at_n", _curves(evaluations, "at", "precision", "N", "precision@N", log=True)
    yield "recall_at_n", _curves(evaluations, "at", "recall", "N", "recall@N", log=True)
    yield "map_against_bits", _against_bits(evaluations)
    for place, evaluation in enumerate(evaluations):
        suffix = "" if len(evaluations) == 1 else f"_{place + 1}"
        yield f"distances{suffix}", _distances(evaluation)
        yield f"bits{suffix}", _bits(evaluation)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _figure(size: tuple[float, float]) -> Figure:
    """An empty figure, in inches, drawn by Agg: pyplot keeps every figure of a process and may open windows."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure with one panel per cross-modal direction."""
    figure = _figure(size)
    return figure, figure.subplots(1, len(CROSS_MODAL), sharey=True)


def _label(evaluation: Evaluation) -> str:
    return f"{evaluation.export.name} ({evaluation.record['k_bits']} bits)"


def _curves(evaluations: list[Evaluation], x: str, y: str, x_label: str, y_label: str, log: bool = False) -> Figure:
    figure, axes = _panels((9, 3.8))
    for axis, direction in zip(axes, CROSS_MODAL, strict=True):
        for evaluation in evaluations:
            means = evaluation.record["directions"][direction]
            axis.plot(means[x], means[y], marker=".", label=_label(evaluation))
        if "precision" in y:
            share = means["radius_precision"][-1]  # of relevant rows in the whole database
            axis.axhline(share, color="grey", linestyle=":", label="chance level")
        axis.set(title=direction, xlabel=x_label, xscale="log" if log else "linear")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(y_label)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def _against_bits(evaluations: list[Evaluation]) -> Figure:
    figure, axes = _panels((9, 3.8))
    lines = defaultdict(list)
    for evaluation in evaluations:
        lines[evaluation.record["method"], evaluation.record["protocol"]].append(evaluation.record)
    for axis, direction in zip(axes, CROSS_MODAL, strict=True):
        for (method, protocol), records in lines.items():
            runs = defaultdict(list)
            for record in records:
                runs[record["k_bits"]].append(record["directions"][direction]["mAP"])
            bits = sorted(runs)
            means, errors = zip(*(mean_and_deviation(runs[k]) for k in bits), strict=True)
            axis.errorbar(bits, means, yerr=errors, marker="o", capsize=3, label=f"{method}, {protocol}")
        axis.axhline(evaluations[0].record["floor"], color="grey", linestyle=":", label="chance level")
        axis.set(
            title=direction, xlabel="bits", xticks=sorted({record["k_bits"] for rs in lines.values() for record in rs})
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP")
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def _distances(evaluation: Evaluation) -> Figure:
    figure, axes = _panels((9, 3.2))
    for axis, direction in zip(axes, CROSS_MODAL, strict=True):
        metrics = evaluation.metrics[direction]
        within, good = metrics.rows_within.sum(0), metrics.relevant_within.sum(0)
        radii = np.arange(len(within))
        for total, name, colour in ((good, "relevant", "#2a8f4f"), (within - good, "irrelevant", "#c0392b")):
            if total[-1]:
                axis.bar(radii, np.diff(total, prepend=0) / total[-1], width=1, alpha=0.5, label=name, color=colour)
        axis.set(title=f"{_label(evaluation)}, {direction}", xlabel="Hamming distance")
    axes[0].set_ylabel("share of pairs")
    axes[1].legend(frameon=False)
    return figure


def _bits(evaluation: Evaluation) -> Figure:
    """Balance, the share of ones of each bit, and correlation between bits, over the database's images and texts."""
    figure = _figure((11, 3.4))
    axes = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    for axis, key, name in zip(axes[1:], ("r_img", "r_txt"), ("images", "texts"), strict=True):
        bits = unpack(evaluation.export.codes[key], evaluation.export.k_bits).astype(np.float64)
        axes[0].plot(np.arange(1, bits.shape[1] + 1), bits.mean(0), marker=".", label=name)
        centred = bits - bits.mean(0)
        deviation = centred.std(0)
        scale = np.where(deviation > 0, deviation, 1)
        correlation = centred.T @ centred / len(bits) / np.outer(scale, scale)
        image = axis.imshow(correlation, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_title(f"bit correlation, {name}")
    axes[0].axhline(0.5, color="grey", linestyle=":")
    axes[0].set(title=f"{_label(evaluation)}: bit balance", xlabel="bit", ylabel="share of ones", ylim=(0, 1))
    axes[0].legend(frameon=False)
    figure.colorbar(image, ax=axes[1:], shrink=0.8)
    return figure
