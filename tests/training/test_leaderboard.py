"""The leaderboard's table from the records of runs."""

import json

from math_hash.config import Config
from math_hash.evaluation.exports import DIRECTIONS
from math_hash.training.leaderboard import Cell, write_leaderboard

RESULTS = {
    "protocol": "own", "queries": 10, "database": 50, "training_rows": 40, "selected_on": "val", "floor": 0.2,
    "head_parameters": 1000, "mAP": dict.fromkeys(DIRECTIONS, 0.5),
}  # fmt: skip
RECALL = {
    "image->text": {"recall@1": 0.1, "recall@5": 0.2, "recall@10": 0.3},
    "text->image": {"recall@1": 0.2, "recall@5": 0.3, "recall@10": 0.5},
}


def test_own_pair_recall_is_a_column_and_empty_for_results_of_earlier_versions(tmp_path):
    cells = [Cell("MATH", 16, 1, tmp_path / "new"), Cell("MATH", 32, 1, tmp_path / "old")]
    for cell, record in zip(cells, (RESULTS | {"own_pair_recall": RECALL}, RESULTS), strict=True):
        cell.folder.mkdir()
        (cell.folder / "results.json").write_text(json.dumps(record))
    write_leaderboard(cells, tmp_path / "docs", Config(features="x"), dict.fromkeys(DIRECTIONS, 0.4))
    lines = (tmp_path / "docs/leaderboard.md").read_text().splitlines()
    tables = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith(("| method", "| MATH |"))]
    header, new, _, old = tables
    assert len({len(cells) for cells in tables}) == 1
    column = header.index("own-pair R@10")
    assert (new[column], old[column]) == ("0.4000", "")
    assert new[column - 1] == old[column - 1] == "0.5000"
