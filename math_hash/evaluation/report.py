"""Tables, plots and one self-contained page about evaluated exports."""

import base64
import csv
import html
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from math_hash.evaluation.exports import DIRECTIONS, Evaluation
from math_hash.evaluation.significance import mean_and_deviation, paired_bootstrap
from math_hash.files import write_bytes, write_text
from math_hash.hamming.codes import unpack

_CROSS = ("image->text", "text->image")


def table(evaluations: list[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mAP in four directions, floor and normalised score, a row an export.

    Exports of one method, dataset and length are taken for seeds of one model; a row of their means and deviations
    follows them.
    """
    header = ["model", "bits", *DIRECTIONS, "random codes", "normalised i->t", "normalised t->i"]
    rows, seeds = [], defaultdict(list)
    for evaluation in evaluations:
        record = evaluation.record
        values = [record["directions"][direction]["mAP"] for direction in DIRECTIONS]
        values += [record["floor"], *(record["directions"][direction]["normalized_score"] for direction in _CROSS)]
        rows.append([evaluation.export.name, str(record["k_bits"]), *(f"{value:.4f}" for value in values)])
        seeds[evaluation.export.name, record["k_bits"]].append(values)
    for (name, bits), runs in seeds.items():
        if len(runs) > 1:
            pairs = [mean_and_deviation(list(column)) for column in zip(*runs, strict=True)]
            cells = [f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in pairs]
            rows.append([f"{name}, {len(runs)} seeds", str(bits), *cells])
    return header, rows


def differences(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """Paired bootstrap over queries of each export against the first, per cross-modal direction.

    Only exports with the same query labels are paired.
    """
    first, found = evaluations[0], []
    for other in evaluations[1:]:
        if first.record["label_sha256"] != other.record["label_sha256"]:
            continue
        for direction in _CROSS:
            pair = [item.metrics[direction].average_precision for item in (first, other)]
            difference = paired_bootstrap(*map(np.nan_to_num, pair))
            found.append(
                {
                    "first": str(first.export.path),
                    "second": str(other.export.path),
                    "direction": direction,
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p_value": difference.p_value,
                }
            )
    return found


def as_text(header: list[str], rows: list[list[str]]) -> str:
    """The table for a terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (header, *rows))
    ]
    return "\n".join(lines)


def as_latex(header: list[str], rows: list[list[str]]) -> str:
    """The table as a LaTeX `tabular` with booktabs rules."""

    def line(cells: list[str]) -> str:
        escaped = (
            cell.replace("_", r"\_").replace("->", r"$\to$").replace("±", r"$\pm$").replace("%", r"\%")
            for cell in cells
        )
        return " & ".join(escaped) + r" \\"

    body = "\n".join(map(line, rows))
    columns = "l" + "r" * (len(header) - 1)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(header), r"\midrule", body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def write_report(evaluations: list[Evaluation], folder: str | Path) -> list[Path]:
    """Write `results.json`, `results.csv`, `results.tex`, `plots/*.png` and `report.html`, which needs no other file.

    Returns:
        The paths written.

    Raises:
        InputError: a file could not be written.
    """
    folder = Path(folder)
    header, rows = table(evaluations)
    compared = differences(evaluations)
    results = {"results": [evaluation.record for evaluation in evaluations], "differences": compared}
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    lines = io.StringIO()
    csv.writer(lines).writerows([header, *rows])
    write_text(folder / "results.csv", lines.getvalue())
    write_text(folder / "results.tex", as_latex(header, rows))
    pictures = {}
    for name, figure in _figures(evaluations):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        plt.close(figure)
        pictures[name] = buffer.getvalue()
        write_bytes(folder / "plots" / f"{name}.png", buffer.getvalue())
    write_text(folder / "report.html", _page(evaluations, header, rows, compared, pictures))
    names = ["results.json", "results.csv", "results.tex", "report.html", *(f"plots/{name}.png" for name in pictures)]
    return [folder / name for name in names]


def _figures(evaluations: list[Evaluation]):
    yield "precision_recall", _curves(evaluations, "radius_recall", "radius_precision", "recall", "precision")
    yield "precision_at_n", _curves(evaluations, "at", "precision", "N", "precision@N", log=True)
    yield "recall_at_n", _curves(evaluations, "at", "recall", "N", "recall@N", log=True)
    yield "map_against_bits", _against_bits(evaluations)
    for place, evaluation in enumerate(evaluations):
        suffix = "" if len(evaluations) == 1 else f"_{place + 1}"
        yield f"distances{suffix}", _distances(evaluation)
        yield f"bits{suffix}", _bits(evaluation)


def _label(evaluation: Evaluation) -> str:
    return f"{evaluation.export.name} ({evaluation.record['k_bits']} bits)"


def _curves(evaluations: list[Evaluation], x: str, y: str, x_label: str, y_label: str, log: bool = False) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for axis, direction in zip(axes, _CROSS, strict=True):
        for evaluation in evaluations:
            means = evaluation.record["directions"][direction]
            axis.plot(means[x], means[y], marker=".", label=_label(evaluation))
        if "precision" in y:
            axis.axhline(_relevant_share(evaluations[0], direction), color="grey", linestyle=":", label="random codes")
        axis.set(title=direction, xlabel=x_label, xscale="log" if log else "linear")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(y_label)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def _relevant_share(evaluation: Evaluation, direction: str) -> float:
    metrics = evaluation.metrics[direction]
    return float((metrics.relevant / metrics.rows_within[:, -1]).mean())


def _against_bits(evaluations: list[Evaluation]) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    lines = defaultdict(list)
    for evaluation in evaluations:
        lines[evaluation.record["method"], evaluation.record["protocol"]].append(evaluation.record)
    for axis, direction in zip(axes, _CROSS, strict=True):
        for (method, protocol), records in lines.items():
            runs = defaultdict(list)
            for record in records:
                runs[record["k_bits"]].append(record["directions"][direction]["mAP"])
            bits = sorted(runs)
            means, errors = zip(*(mean_and_deviation(runs[k]) for k in bits), strict=True)
            axis.errorbar(bits, means, yerr=errors, marker="o", capsize=3, label=f"{method}, {protocol}")
        axis.axhline(evaluations[0].record["floor"], color="grey", linestyle=":", label="random codes")
        axis.set(
            title=direction, xlabel="bits", xticks=sorted({record["k_bits"] for rs in lines.values() for record in rs})
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP")
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def _distances(evaluation: Evaluation) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, direction in zip(axes, _CROSS, strict=True):
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
    """Balance, the share of ones a bit, and correlation between bits, over the database's images and texts."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=(1.4, 1, 1))
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


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
td,th{padding:.3rem .7rem;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}thead{border-bottom:2px solid #222}
tbody tr:nth-child(odd){background:#f4f4f4}
img{max-width:100%}.warning{background:#fff1c4;padding:.4rem .8rem}code{font-size:.9em}"""


def _page(evaluations: list[Evaluation], header, rows, compared, pictures: dict[str, bytes]) -> str:
    first = evaluations[0].record
    warnings = [f"{item.export.name}: {line}" for item in evaluations for line in item.record["warnings"]]
    facts = [
        (name, first[name])
        for name in ("protocol", "split_seed", "queries", "database", "training_rows_in_database", "selected_on")
    ]
    facts += [("ties", first["ties"]), ("normalizer of mAP@k", first["normalizer"]), ("top_k", first["top_k"])]
    facts += [("queries without relevant rows", first["directions"]["image->text"]["queries_without_relevant_rows"])]
    facts += [("SHA-256 of the labels", first["label_sha256"])]
    images = "".join(
        f'<h2>{html.escape(name.replace("_", " "))}</h2><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for name, content in pictures.items()
    )
    tests = [
        [
            Path(item["second"]).stem, Path(item["first"]).stem, item["direction"], f"{item['difference']:+.4f}",
            f"{item['low']:+.4f} to {item['high']:+.4f}", f"{item['p_value']:.4f}",
        ]
        for item in compared
    ]  # fmt: skip
    comparison = ""
    if tests:
        names = ["model", "against", "direction", "difference of mAP", "95 % interval", "p"]
        comparison = "<h2>Differences, paired bootstrap over queries</h2>" + _html_table(names, tests)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Evaluation</title><style>{_STYLE}</style><h1>Evaluation</h1>"
        + "".join(f'<p class="warning">{html.escape(line)}</p>' for line in warnings)
        + _html_table(header, rows)
        + comparison
        + "<h2>How it was measured</h2>"
        + _html_table(["", ""], [[name, str(value)] for name, value in facts])
        + images
        + "</html>\n"
    )


def _html_table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"
