"""Tables and one self-contained page about evaluated exports."""

import base64
import csv
import html
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from math_hash.evaluation.exports import CROSS_MODAL, DIRECTIONS, Evaluation
from math_hash.evaluation.own_pair_recall import mean_recall_at_10
from math_hash.evaluation.plots import figures, png
from math_hash.evaluation.significance import mean_and_deviation, paired_bootstrap
from math_hash.files import write_bytes, write_text


def table(evaluations: list[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mAP in four directions, chance level, normalized scores and own-pair recall, a row per export.

    Exports of one method, dataset and length count as seeds of one model: a row of their means and deviations follows
    all others.
    """
    header = ["model", "bits", *DIRECTIONS, "chance level", "normalized i->t", "normalized t->i", "own-pair R@10"]
    rows: list[list[str]] = []
    seeds: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for evaluation in evaluations:
        record = evaluation.record
        values = [record["directions"][direction]["mAP"] for direction in DIRECTIONS]
        values += [record["floor"], *(record["directions"][direction]["normalized_score"] for direction in CROSS_MODAL)]
        values.append(mean_recall_at_10(record["own_pair_recall"]))
        rows.append([evaluation.export.name, str(record["k_bits"]), *(f"{value:.4f}" for value in values)])
        seeds[evaluation.export.name, record["k_bits"]].append(values)
    for (name, bits), runs in seeds.items():
        if len(runs) > 1:
            pairs = [mean_and_deviation(list(column)) for column in zip(*runs, strict=True)]
            cells = [f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in pairs]
            rows.append([f"{name}, {len(runs)} seeds", str(bits), *cells])
    return header, rows


def differences(evaluations: list[Evaluation], *, samples: int = 10_000, seed: int = 0) -> list[dict[str, Any]]:
    """Paired bootstrap over queries of each export against the first, for each cross-modal direction.

    Only exports with the same query labels are paired.

    Args:
        samples, seed: of the bootstrap, as in `paired_bootstrap`.

    Returns:
        One record per pair and direction, as `results.json` holds it.
    """
    first = evaluations[0]
    records: list[dict[str, Any]] = []
    for other in evaluations[1:]:
        if first.record["label_sha256"] != other.record["label_sha256"]:
            continue
        for direction in CROSS_MODAL:
            values = [item.metrics[direction].average_precision for item in (first, other)]
            difference = paired_bootstrap(values[0], values[1], samples, seed)
            records.append(
                {
                    "first": str(first.export.path),
                    "second": str(other.export.path),
                    "direction": direction,
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p_value": difference.p_value,
                    "samples": samples,
                    "seed": seed,
                }
            )
    return records


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
    pictures = {name: png(figure) for name, figure in figures(evaluations)}
    for name, content in pictures.items():
        write_bytes(folder / "plots" / f"{name}.png", content)
    write_text(folder / "report.html", _page(evaluations, header, rows, compared, pictures))
    names = ["results.json", "results.csv", "results.tex", "report.html", *(f"plots/{name}.png" for name in pictures)]
    return [folder / name for name in names]


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
td,th{padding:.3rem .7rem;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}thead{border-bottom:2px solid #222}
tbody tr:nth-child(odd){background:#f4f4f4}
img{max-width:100%}.warning{background:#fff1c4;padding:.4rem .8rem}code{font-size:.9em}"""


def _page(
    evaluations: list[Evaluation],
    header: list[str],
    rows: list[list[str]],
    compared: list[dict[str, Any]],
    pictures: dict[str, bytes],
) -> str:
    """The page: warnings, table, differences, how it was measured, plots."""
    warnings = [f"{item.export.name}: {line}" for item in evaluations for line in item.record["warnings"]]
    images = "".join(
        f'<h2>{html.escape(name.replace("_", " "))}</h2><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for name, content in pictures.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Evaluation</title><style>{_STYLE}</style><h1>Evaluation</h1>"
        + "".join(f'<p class="warning">{html.escape(line)}</p>' for line in warnings)
        + _html_table(header, rows)
        + _comparison(compared)
        + "<h2>How it was measured</h2>"
        + _html_table(["", ""], _facts(evaluations[0].record))
        + images
        + "</html>\n"
    )


def _comparison(compared: list[dict[str, Any]]) -> str:
    """What `differences` gave, as a table under its heading; nothing where no exports were compared."""
    if not compared:
        return ""
    header = ["model", "against", "direction", "difference of mAP", "95 % interval", "p"]
    rows = [
        [
            Path(item["second"]).stem, Path(item["first"]).stem, item["direction"], f"{item['difference']:+.4f}",
            f"{item['low']:+.4f} to {item['high']:+.4f}", f"{item['p_value']:.4f}",
        ]
        for item in compared
    ]  # fmt: skip
    return "<h2>Differences, paired bootstrap over queries</h2>" + _html_table(header, rows)


def _facts(record: dict[str, Any]) -> list[list[str]]:
    """How an export was measured: names and values."""
    names = ("protocol", "split_seed", "queries", "database", "training_rows_in_database", "selected_on")
    facts = [(name, record[name]) for name in names]
    facts += [("ties", record["ties"]), ("normalizer of mAP@k", record["normalizer"]), ("top_k", record["top_k"])]
    facts += [("labels that relevant rows share", record["min_shared"])]
    without = record["directions"]["image->text"]["queries_without_relevant_rows"]
    facts += [("queries without relevant rows", f"{without} ({record['no_relevant']})")]
    facts += [("SHA-256 of the labels", record["label_sha256"])]
    return [[name, str(value)] for name, value in facts]


def _html_table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"
