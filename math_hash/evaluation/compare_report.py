"""The table, the figure and the sentences of a comparison; all of them are made from its numbers."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from math_hash.evaluation.compare import CANDIDATES
from math_hash.files import atomic_writer, write_text

Record = Mapping[str, Any]
BUDGET = 8  # bytes per item at which the sentences compare
MEASURES = {
    "mAP": "mAP",
    "mAP_other_rows": "mAP of rows not trained on",
    "precision@20": "precision@20",
    "own_pair_recall@10": "own-pair recall@10",
    "mAP_unseen": "mAP of unseen labels",
}
REFERENCE, FLOOR = "float32", "classifier bits"
_NEAR_CHANCE, _EQUAL = 0.01, 0.005
_PANELS = ("mAP", "own_pair_recall@10", "mAP_unseen")
_MARKERS = "sDd^vP*X<>hop"
_COLORS = ("#7f7f7f", "#1f77b4", "#17becf", "#9467bd", "#e377c2", "#8c564b", "#ff7f0e", "#bcbd22", "#d62728", "#2ca02c",
           "#005f73", "#6a040f", "#e63946")  # fmt: skip


def write_comparison(record: Record, folder: Path) -> None:
    """Write compare.md, compare.csv, compare.json and compare.png.

    Args:
        record: what `math_hash.compare` returns.

    Raises:
        InputError: a file cannot be written.
    """
    write_text(folder / "compare.json", json.dumps(record, indent=2) + "\n")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    columns = ["name", "bytes", "form", *_measures(record), "fitted"]
    writer.writerows([columns, *([row[name] for name in columns] for row in record["rows"])])
    write_text(folder / "compare.csv", lines.getvalue())
    write_text(folder / "compare.md", as_markdown(record))
    with atomic_writer(folder / "compare.png") as file:
        figure(record).savefig(file, format="png", dpi=110)


def as_markdown(record: Record) -> str:
    """The page: what was compared, the figure, the table, and what it says."""
    facts = [line for sentence in _facts(record) for line in wrap(sentence, 118)]
    said = [line for sentence in sentences(record) for line in wrap(f"* {sentence}", 118, subsequent_indent="  ")]
    names = _measures(record)
    header = f"| stored | bytes | {' | '.join(names.values())} | fitted to training rows |"
    table = [header, "|" + " --- |" * (len(names) + 3)]
    for (name, size), forms in _by_entry(record["rows"]).items():
        cells = [" / ".join(f"{row[measure]:.3f}" for row in forms) for measure in names]
        table.append(f"| {name} | {size} | {' | '.join(cells)} | {forms[0]['fitted']} |")
    table.append(f"| chance level | | {' | '.join(format(record['chance'][name], '.3f') for name in names)} | |")
    title = f"# Quality against bytes: {record['dataset']}"
    parts = [[title], facts, ["![quality against bytes per item](compare.png)"], table, said]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _by_entry(rows: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Name and bytes -> the entry's rows, the plain one first."""
    entries: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for row in rows:
        entries[row["name"], row["bytes"]].append(row)
    return entries


def _measures(record: Record) -> dict[str, str]:
    return {name: title for name, title in MEASURES.items() if name in record["chance"]}


def _facts(record: Record) -> Iterator[str]:
    """What was compared, for the reader of the table."""
    yield (
        f"Protocol {record['protocol']}: {record['queries']} queries, {record['database']} database rows, of which "
        f"{record['training_rows']} are training rows (all fits are on these) and {record['validation_rows']} "
        f"validation rows. Encoder: {record['encoder']}. Each figure is the mean of image->text and text->image; ties "
        "are broken by database order. Own-pair recall ranks the partners of all queries. Two figures: by Hamming "
        f"distance / with its first {CANDIDATES} rows reranked by the inner product of the query's float values with "
        "the row's -1/+1 bits, which stores nothing more. The other rows score the query's float vector."
    )
    if record["aligned"]:
        yield "float32 and what is quantized or fitted are the vectors after canonical correlation analysis (CCA)."
    if unseen := record["unseen"]:
        yield (
            "Unseen labels: everything that is trained or fitted is so again, an encoder that is trained included, on "
            f"the {unseen['training_rows']} training rows without {', '.join(unseen['labels'])}; {unseen['queries']} "
            f"queries and {unseen['database']} database rows have one of these labels, and are relevant where they "
            "share one."
        )
    yield from (f"{note[0].upper()}{note[1:]}." for note in record["notes"])


def sentences(record: Record) -> list[str]:
    """What the numbers say: the best at 8 bytes, what learned codes win and lose, classifier bits, reranking."""
    rows, names, method = record["rows"], _measures(record), record["method"]
    small = [row for row in rows if row["bytes"] <= BUDGET]
    (reference,) = (row for row in rows if row["name"] == REFERENCE)
    said = [f"Best at {BUDGET} bytes or fewer: {'; '.join(_best(small, name, names[name]) for name in names)}."]
    if learned := [row for row in small if row["name"] == method]:
        ours = _first(learned, "mAP")
        said.append(f"{_called(ours)}, against {_called(reference)}: {_differences(ours, reference, names)}")
        if others := [row for row in small if row["name"] not in (method, FLOOR)]:
            rival, keeper = _first(others, "mAP"), _first(others, "own_pair_recall@10")
            said.append(
                f"{_called(ours)}, against the best mAP of codes without labels, {_called(rival)}: "
                f"{_differences(ours, rival, names)}"
            )
            of_three = [f"{_called(row)} {row['own_pair_recall@10']:.3f}" for row in (reference, keeper, ours)]
            said.append(f"Own-pair recall@10: {'; '.join(of_three)}.")
        floor = _first([row for row in rows if row["name"] == FLOOR and row["bytes"] == ours["bytes"]], "mAP")
        said.append(
            f"{_called(floor)}, which say only the class, against {_called(ours)}: {_differences(floor, ours, names)}"
        )
    for called, chosen in (
        (f"the codes of {method}", [row for row in rows if row["name"] == method]),
        ("binary codes without labels", [row for row in rows if row["name"] not in (method, FLOOR)]),
    ):
        said += _about_reranking(called, chosen, names)
    for row in rows:
        if row["name"].endswith(REFERENCE) and row["mAP"] <= record["chance"]["mAP"] + _NEAR_CHANCE:
            said.append(f"{row['name']} is at chance level: images and texts of the encoder share no space (--align).")
    return said


def _first(rows: list[Record], name: str) -> Record:
    return max(rows, key=lambda row: row[name])


def _best(rows: list[Record], name: str, title: str) -> str:
    row = _first(rows, name)
    return f"{title} {row[name]:.3f} ({_called(row)})"


def _called(row: Record) -> str:
    return f"{row['name']}, {row['bytes']} bytes{', reranked' if row['form'] == 'reranked' else ''}"


def _differences(one: Record, other: Record, names: Mapping[str, str]) -> str:
    """What `one` wins and what it loses against `other`."""
    changes = {title: one[name] - other[name] for name, title in names.items()}
    parts = {
        "wins": [f"{title} {value:+.3f}" for title, value in changes.items() if value >= _EQUAL],
        "loses": [f"{title} {value:+.3f}" for title, value in changes.items() if value <= -_EQUAL],
        f"is within {_EQUAL} in": [title for title, value in changes.items() if abs(value) < _EQUAL],
    }
    return "; ".join(f"{word} {', '.join(listed)}" for word, listed in parts.items() if listed) + "."


def _about_reranking(called: str, rows: list[Record], names: Mapping[str, str]) -> Iterator[str]:
    pairs = [forms for forms in _by_entry(rows).values() if len(forms) == 2]
    if pairs:
        means = {title: np.mean([new[name] - old[name] for old, new in pairs]) for name, title in names.items()}
        listing = ", ".join(f"{title} {value:+.3f}" for title, value in means.items())
        yield f"Reranking changes {called}, in the mean over all of them, by: {listing}."


def figure(record: Record) -> Figure:
    """One panel per measure: bytes per item on a logarithmic axis, hollow markers without reranking."""
    panels = [name for name in _PANELS if name in record["chance"]]
    drawing = Figure(figsize=(4.4 * len(panels) + 2.4, 4.8), layout="constrained")
    FigureCanvasAgg(drawing)  # pyplot would keep every figure of a process, and may open windows
    lines: dict[str, list[list[Record]]] = defaultdict(list)  # name -> rows of each of its lengths
    for (name, _), forms in _by_entry(record["rows"]).items():
        lines[name].append(forms)
    ticks = sorted({2 ** round(float(np.log2(row["bytes"]))) for row in record["rows"]})
    places = _places(lines)
    axes = drawing.subplots(1, len(panels), squeeze=False)[0]
    for axis, measure in zip(axes, panels, strict=True):
        for number, (name, entries) in enumerate(lines.items()):
            ours = name == record["method"]
            color = "black" if ours else _COLORS[number % len(_COLORS)]
            style = {"color": color, "marker": _MARKERS[number % len(_MARKERS)], "ms": 7, "lw": 2 if ours else 1}
            *plain, best = zip(*entries, strict=True)
            for rows in plain:
                axis.plot(places[name], [row[measure] for row in rows], **style, ls=":", markerfacecolor="white")
            axis.plot(places[name], [row[measure] for row in best], **style, label=name)
        (reference,) = lines[REFERENCE][0]
        axis.axhline(reference[measure], color="gray", ls="--", lw=1, label=f"level of {REFERENCE}")
        axis.axhline(record["chance"][measure], color="gray", ls=":", lw=1, label="chance level")
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axis.set(title=MEASURES[measure], xlabel="bytes per item")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    meaning = "hollow: Hamming distance\nfilled: reranked, or no bits\npoints of one size stand side by side"
    drawing.legend(
        handles, labels, loc="outside right center", title=meaning, title_fontsize=8, fontsize=8, frameon=False
    )
    drawing.suptitle(f"{record['dataset']}: quality against bytes per item", fontsize=11)
    return drawing


def _places(lines: Mapping[str, list[list[Record]]]) -> dict[str, list[float]]:
    """Where each name's points stand on the axis; those of one length, and of the same bytes, beside each other."""
    places = {name: [float(forms[0]["bytes"]) for forms in entries] for name, entries in lines.items()}
    for size in {place for (place, *more) in places.values() if not more}:
        alone = [name for name, (place, *more) in places.items() if not more and place == size]
        for number, name in enumerate(alone):
            places[name] = [size * 2 ** (0.22 * (number - (len(alone) - 1) / 2))]
    return places
