"""`math-hash evaluate CODES.mat ...` and what it stands on: exports, floors, comparisons, reports."""

import csv
import json
import re

import numpy as np
import pytest
import scipy.io

from math_hash import InputError
from math_hash.cli import main
from math_hash.evaluation import floor_warning, mean_and_deviation, normalized_score, paired_bootstrap
from math_hash.evaluation.exports import evaluate_export, read_export, require_comparable
from math_hash.protocols import PROTOCOLS, protocol_of


def write_export(path, seed=0, k_bits=16, noise=0.1, rows=(20, 90), **change):
    """Codes that follow the labels up to some noise."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    basis = rng.normal(size=(4, 64))[:, :k_bits]
    labels = [
        (rng.random((n, 4)) < 0.3).astype(np.uint8) | np.eye(4, dtype=np.uint8)[rng.integers(0, 4, n)] for n in rows
    ]
    rng = np.random.default_rng(seed)

    def codes(part):
        return np.where(part @ basis + noise * rng.normal(size=(len(part), k_bits)) >= 0, 1.0, -1.0)

    content = {
        "q_img": codes(labels[0]),
        "q_txt": codes(labels[0]),
        "r_img": codes(labels[1]),
        "r_txt": codes(labels[1]),
    }
    content |= {"q_l": labels[0], "r_l": labels[1], **change}
    scipy.io.savemat(path, {name: value for name, value in content.items() if value is not None})
    return path


def test_one_call_prints_a_table_and_writes_the_report(tmp_path, capsys):
    paths = [
        write_export(tmp_path / "seed1" / "MATH-own-16.mat", seed=1),
        write_export(tmp_path / "seed2" / "MATH-own-16.mat", seed=2),
        write_export(tmp_path / "MATH-own-32.mat", k_bits=32),
        write_export(tmp_path / "DCMH-own-16.mat", noise=8.0),
    ]
    assert main(["evaluate", *map(str, paths), "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"MATH-own-16, 2 seeds +16 +0\.\d{4} ± 0\.\d{4}", printed)
    assert "DCMH-own-16.mat against" in printed
    folder = tmp_path / "report"
    results = json.loads((folder / "results.json").read_text())
    record = results["results"][0]
    assert (record["protocol"], record["queries"], record["database"], record["ties"]) == ("own", 20, 90, "index")
    assert len(record["label_sha256"]) == 64
    assert record["directions"]["image->text"]["mAP"] > record["floor"] + 0.1
    worse = [item for item in results["differences"] if "DCMH" in item["second"]]
    assert all(item["difference"] < 0 and item["p_value"] < 0.05 for item in worse)
    lines = list(csv.reader((folder / "results.csv").read_text().splitlines()))
    assert lines[0][:3] == ["model", "bits", "image->text"]
    assert float(lines[1][2]) == pytest.approx(record["directions"]["image->text"]["mAP"], abs=1e-4)
    assert r"\toprule" in (folder / "results.tex").read_text()
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((folder / "plots").iterdir())) == 4 + 2 * 4
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched from elsewhere


def test_codes_that_know_nothing_are_warned_of(tmp_path, capsys):
    path = write_export(tmp_path / "a.mat", noise=1e6, rows=(40, 2000))
    assert main(["evaluate", str(path), "--output", str(tmp_path / "report"), "--ties", "expected"]) == 0
    assert "is not above what random codes reach" in capsys.readouterr().out
    assert 'class="warning"' in (tmp_path / "report" / "report.html").read_text()


def test_queries_without_relevant_rows_are_told(tmp_path, capsys):
    labels = np.zeros((20, 4), np.uint8)
    labels[:17, 0] = 1
    path = write_export(tmp_path / "a.mat", q_l=labels)
    arguments = ["evaluate", str(path), "--output", str(tmp_path / "report")]
    assert main(arguments) == 0
    assert "3 queries have no relevant row (--no-relevant zero)" in capsys.readouterr().out
    assert main([*arguments, "--no-relevant", "error"]) == 2
    assert "3 of 20 queries have no relevant row, first row 17" in capsys.readouterr().err


def test_results_of_different_protocols_are_not_set_side_by_side(tmp_path, capsys):
    first, second = write_export(tmp_path / "a.mat"), write_export(tmp_path / "b.mat", rows=(20, 80))
    arguments = ["evaluate", str(first), str(second), "--output", str(tmp_path / "report")]
    assert main(arguments) == 2
    assert re.search(r"cannot be compared: they differ in database \(90 and 80\), labels", capsys.readouterr().err)
    assert not (tmp_path / "report").exists()
    assert main([*arguments, "--allow-different"]) == 0


def test_a_runs_own_record_tells_how_its_codes_were_made(tmp_path):
    known = {"protocol": "flickr25k", "split_seed": 1, "selected_on": "test", "training_rows_in_database": True}
    paths = []
    for name, selected_on in (("one", "test"), ("two", "val")):
        paths.append(write_export(tmp_path / name / "PR_curve" / "MATH-flickr25k-16.mat"))
        (tmp_path / name / "results.json").write_text(json.dumps({**known, "selected_on": selected_on}))
    records = [evaluate_export(read_export(path)).record for path in paths]
    assert records[0]["protocol"] == "flickr25k"
    assert records[0]["training_rows_in_database"] is True
    with pytest.raises(InputError, match=r"differ in selected_on \(test and val\)"):
        require_comparable(records)
    require_comparable([records[0], records[0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_txt": None}, "lacks q_txt"),
        ({"q_img": np.full((20, 16), 0.5)}, "q_img must be a matrix of -1/\\+1"),
        ({"r_img": np.ones((7, 16))}, "r_img and its labels differ in length"),
        ({"r_img": np.ones((90, 8))}, r"codes of \[8, 16\] bits"),
        ({"q_l": np.full((20, 4), 2)}, "q_l must be a matrix of 0/1"),
    ],
)
def test_bad_exports_are_one_clear_line(tmp_path, capsys, change, message):
    path = write_export(tmp_path / "a.mat", **change)
    assert main(["evaluate", str(path), "--output", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="not a readable"):
        read_export(path)
    with pytest.raises(InputError, match="no such file"):
        read_export(tmp_path / "nowhere.mat")


def test_protocols_are_recognised_by_their_sizes():
    assert protocol_of(2000, 18015, 24) == "flickr25k"
    assert protocol_of(2000, 18015, 23) == "own"
    assert set(PROTOCOLS) == {
        "flickr25k", "flickr25k-24581", "nuswide", "nuswide-195834", "coco", "iaprtc12", "demo",
    }  # fmt: skip


def test_floor_and_normalised_score():
    assert normalized_score(0.78, 0.56) == pytest.approx(0.5)
    assert normalized_score(1.0, 1.0) == 0
    assert floor_warning(0.565, 0.56)
    assert floor_warning(0.58, 0.56) is None


def test_bootstrap_tells_a_difference_from_chance():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    better = paired_bootstrap(base, base + 0.02 + 0.05 * rng.normal(size=500))
    assert better.low > 0
    assert better.p_value < 0.001
    same = paired_bootstrap(base, base + 0.05 * rng.normal(size=500))
    assert same.low < 0 < same.high
    assert same.p_value > 0.05
    assert paired_bootstrap(base, base).p_value == 1
    assert paired_bootstrap(base, base[::-1]) == paired_bootstrap(base, base[::-1])
    with pytest.raises(InputError, match="one value a query in both"):
        paired_bootstrap(base, base[:-1])
    # under no difference, small p-values are as rare as they should be
    values = [paired_bootstrap(*rng.normal(size=(2, 40)), samples=500, seed=seed).p_value for seed in range(200)]
    assert 0.01 < np.mean(np.array(values) < 0.05) < 0.12


def test_mean_and_deviation_over_seeds():
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
