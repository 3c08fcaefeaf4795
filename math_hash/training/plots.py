"""Plots of a run's history."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from math_hash.files import atomic_writer


def plot_history(history: list[dict[str, Any]], folder: str | Path) -> None:
    """Draw `loss.png` (each weighted term and their sum) and `map.png` (validation mAP) over the epochs.

    Raises:
        InputError: a plot could not be written.
    """
    folder = Path(folder)
    epochs = [record["epoch"] for record in history]
    curves = {name: [record["losses"][name] for record in history] for name in history[0]["losses"]}
    _draw(folder / "loss.png", {"total": (epochs, [r["loss"] for r in history])}, curves, epochs, "loss", log=True)
    scored = [record for record in history if "mAP" in record]
    lines = {
        direction: ([record["epoch"] for record in scored], [record["mAP"][direction] for record in scored])
        for direction in scored[0]["mAP"]
    }
    _draw(folder / "map.png", lines, {}, epochs, "mAP on validation", log=False)


def _draw(path: Path, lines: dict, thin: dict, epochs: list[int], label: str, log: bool) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep every figure of a process, and may open windows
    axes = figure.subplots()
    for name, (at, values) in lines.items():
        axes.plot(at, values, marker="o", markersize=3, linewidth=2, label=name)
    for name, values in thin.items():
        axes.plot(epochs, values, linewidth=1, label=name)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=120)
