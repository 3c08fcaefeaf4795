"""The table, the figure and the sentences of a comparison; all of them are made from its numbers."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
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
    "mAP_other_rows": "mAP, rows not trained on",
    "precision@20": "precision@20",
    "own_pair_recall@10": "own-pair recall@10",
    "mAP_unseen": "mAP, unseen labels",
}
REFERENCE, FLOOR = "float32", "classifier bits"
_NEAR_CHANCE = 0.01
_PANELS = ("mAP", "own_pair_recall@10", "mAP_unseen")
_MARKERS = "osD^vP*Xd<>ph8"


def write_comparison(record: Record, folder: Path) -> None:
    """Write compare.md, compare.csv, compare.json and compare.png.

    Args:
        record: what `math_hash.training.compare.compare` returns.

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
    header = f"| stored | bytes | ranked by | {' | '.join(names.values())} | fitted to training rows |"
    table = [header, "|" + " --- |" * (len(names) + 4)]
    table += [
        f"| {row['name']} | {row['bytes']} | {_ranked_by(row)} | "
        f"{' | '.join(f'{row[name]:.4f}' for name in names)} | {row['fitted']} |"
        for row in record["rows"]
    ]
    chance = " | ".join(f"{record['chance'][name]:.4f}" for name in names)
    table.append(f"| chance level | | | {chance} | |")
    title = f"# Quality against bytes: {record['dataset']}"
    parts = [[title], facts, ["![quality against bytes per item](compare.png)"], table, said]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _ranked_by(row: Record) -> str:
    if row["form"] == "reranked":
        return "asymmetric score of the first 200"
    return "Hamming distance" if row["is_binary"] else "inner product"


def _measures(record: Record) -> dict[str, str]:
    return {name: title for name, title in MEASURES.items() if name in record["chance"]}


def _facts(record: Record) -> Iterator[str]:
    """What was compared, for the reader of the table."""
    yield (
        f"Protocol {record['protocol']}: {record['queries']} queries, {record['database']} database rows, of which "
        f"{record['training_rows']} are training rows (all fits are on these) and {record['validation_rows']} "
        f"validation rows. Encoder: {record['encoder']}. Each figure is the mean of image->text and text->image; ties "
        "are broken by database order. Own-pair recall ranks the partners of all queries. Reranking orders the first "
        f"{CANDIDATES} rows by the inner product of the query's float values with the row's -1/+1 bits, and stores "
        "nothing more. RaBitQ, PQ and OPQ are asymmetric already."
    )
    if record["aligned"]:
        yield "float32 and what is quantized or fitted are the vectors after canonical correlation analysis (CCA)."
    if unseen := record["unseen"]:
        yield (
            f"Unseen labels: everything is trained and fitted again on the {unseen['training_rows']} training rows "
            f"without {', '.join(unseen['labels'])}; {unseen['queries']} queries and {unseen['database']} database "
            "rows have one of these labels, and are relevant where they share one."
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
            of_three = [f"{_called(row)} {row['own_pair_recall@10']:.4f}" for row in (reference, keeper, ours)]
            said.append(f"Own-pair recall@10: {'; '.join(of_three)}.")
        floor = _first([row for row in rows if row["name"] == FLOOR and row["bytes"] == ours["bytes"]], "mAP")
        said.append(
            f"{_called(floor)}, which say only the class, against {_called(ours)}: {_differences(floor, ours, names)}"
        )
    said += _about_reranking(rows, names)
    if reference["mAP"] <= record["chance"]["mAP"] + _NEAR_CHANCE:
        said.append("float32 is at chance level: the encoder's images and texts share no space; see --align.")
    return said


def _first(rows: list[Record], name: str) -> Record:
    return max(rows, key=lambda row: row[name])


def _best(rows: list[Record], name: str, title: str) -> str:
    row = _first(rows, name)
    return f"{title} {row[name]:.4f} ({_called(row)})"


def _called(row: Record) -> str:
    return f"{row['name']}, {row['bytes']} bytes{', reranked' if row['form'] == 'reranked' else ''}"


def _differences(one: Record, other: Record, names: Mapping[str, str]) -> str:
    """What `one` wins and what it loses against `other`."""
    changes = {title: one[name] - other[name] for name, title in names.items()}
    won = ", ".join(f"{title} {value:+.4f}" for title, value in changes.items() if value >= 0)
    lost = ", ".join(f"{title} {value:+.4f}" for title, value in changes.items() if value < 0)
    return "; ".join(filter(None, (won and f"wins {won}", lost and f"loses {lost}"))) + "."


def _about_reranking(rows: list[Record], names: Mapping[str, str]) -> Iterator[str]:
    plain = {(row["name"], row["bytes"]): row for row in rows if row["form"] == "plain"}
    pairs = [(row, plain[row["name"], row["bytes"]]) for row in rows if row["form"] == "reranked"]
    if pairs:
        means = {title: np.mean([new[name] - old[name] for new, old in pairs]) for name, title in names.items()}
        listing = ", ".join(f"{title} {value:+.4f}" for title, value in means.items())
        yield f"Reranking changes binary codes, in the mean over all of them, by: {listing}."


def figure(record: Record) -> Figure:
    """One panel per measure: bytes per item on a logarithmic axis, hollow markers without reranking."""
    panels = [name for name in _PANELS if name in record["chance"]]
    drawing = Figure(figsize=(4.4 * len(panels) + 2.4, 4.8), layout="constrained")
    FigureCanvasAgg(drawing)  # pyplot would keep every figure of a process, and may open windows
    groups: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in record["rows"]:
        groups[row["name"]][row["form"]].append(row)
    ticks = sorted({2 ** round(float(np.log2(row["bytes"]))) for row in record["rows"]})
    axes = drawing.subplots(1, len(panels), squeeze=False)[0]
    for axis, measure in zip(axes, panels, strict=True):
        for number, (name, forms) in enumerate(groups.items()):
            style = {"color": f"C{number % 10}", "marker": _MARKERS[number % len(_MARKERS)], "ms": 7}
            for form, rows in forms.items():
                hollow = form == "plain" and "reranked" in forms
                axis.plot(
                    [row["bytes"] for row in rows], [row[measure] for row in rows], **style,
                    ls=":" if hollow else "-", lw=1, markerfacecolor="none" if hollow else style["color"],
                    label=None if hollow else name,
                )  # fmt: skip
        (reference,) = groups[REFERENCE]["plain"]
        axis.axhline(reference[measure], color="black", ls="--", lw=0.8, label=f"level of {REFERENCE}")
        axis.axhline(record["chance"][measure], color="gray", ls=":", lw=1, label="chance level")
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set(title=MEASURES[measure], xlabel="bytes per item")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False,
                   title="hollow: Hamming distance;\nfilled: reranked, or no bits", title_fontsize=8)  # fmt: skip
    drawing.suptitle(f"{record['dataset']}: quality against bytes per item", fontsize=11)
    return drawing
