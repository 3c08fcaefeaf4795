"""`math-hash evaluate CODES.mat ...` and its parts: exports, comparisons, reports."""

import csv
import json
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.io

from math_hash import InputError, mat
from math_hash.cli import main
from math_hash.evaluation import report
from math_hash.evaluation.exports import evaluate_export, read_export, require_comparable, write_export


def released_export(path, seed=0, k_bits=16, noise=0.1, rows=(20, 90), **change):
    """An export as the releases write it, with SciPy; the codes are the labels with some noise."""
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


@pytest.mark.slow
def test_one_call_prints_a_table_and_writes_the_report(tmp_path, capsys):
    paths = [
        released_export(tmp_path / "seed1" / "MATH-own-16.mat", seed=1),
        released_export(tmp_path / "seed2" / "MATH-own-16.mat", seed=2),
        released_export(tmp_path / "MATH-own-32.mat", k_bits=32),
        released_export(tmp_path / "DCMH-own-16.mat", noise=8.0),
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


def test_codes_at_chance_level_give_a_warning(tmp_path, capsys):
    path = released_export(tmp_path / "a.mat", noise=1e6, rows=(40, 2000))
    assert main(["evaluate", str(path), "--output", str(tmp_path / "report"), "--ties", "expected"]) == 0
    assert "is not above the chance level of these labels" in capsys.readouterr().out
    assert 'class="warning"' in (tmp_path / "report" / "report.html").read_text()


def test_queries_without_relevant_rows_are_reported(tmp_path, capsys):
    labels = np.zeros((20, 4), np.uint8)
    labels[:17, 0] = 1
    path = released_export(tmp_path / "a.mat", q_l=labels)
    arguments = ["evaluate", str(path), "--output", str(tmp_path / "report")]
    assert main(arguments) == 0
    assert "3 queries have no relevant row (--no-relevant zero)" in capsys.readouterr().out
    assert main([*arguments, "--no-relevant", "error"]) == 2
    assert "3 of 20 queries have no relevant row, first row 17" in capsys.readouterr().err


def test_results_of_different_protocols_are_not_compared(tmp_path, capsys):
    first, second = released_export(tmp_path / "a.mat"), released_export(tmp_path / "b.mat", rows=(20, 80))
    arguments = ["evaluate", str(first), str(second), "--output", str(tmp_path / "report")]
    assert main(arguments) == 2
    assert re.search(r"cannot be compared: they differ in database \(90 and 80\), labels", capsys.readouterr().err)
    assert not (tmp_path / "report").exists()
    assert main([*arguments, "--allow-different"]) == 0


def test_the_record_of_a_run_describes_how_its_codes_were_made(tmp_path):
    known = {"protocol": "flickr25k", "split_seed": 1, "selected_on": "test", "training_rows_in_database": True}
    paths = []
    for name, selected_on in (("one", "test"), ("two", "val")):
        paths.append(released_export(tmp_path / name / "PR_curve" / "MATH-flickr25k-16.mat"))
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
        ({"q_img": np.full((20, 16), 0.5)}, "q_img: holds values other than"),
        ({"q_img": np.arange(320).reshape(20, 16) % 3 - 1.0}, "q_img: holds values other than -1/\\+1 or 0/1"),
        ({"r_img": np.ones((7, 16))}, "r_img and its labels differ in length"),
        ({"r_img": np.ones((90, 8))}, r"codes of \[8, 16\] bits"),
        ({"q_l": np.full((20, 4), 2)}, "q_l must be a matrix of 0/1"),
    ],
)
def test_bad_exports_are_one_clear_line(tmp_path, capsys, change, message):
    path = released_export(tmp_path / "a.mat", **change)
    assert main(["evaluate", str(path), "--output", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="not a readable"):
        read_export(path)
    with pytest.raises(InputError, match="no such file"):
        read_export(tmp_path / "nowhere.mat")


@pytest.mark.parametrize("limit", [2**31, 0])
def test_an_export_that_is_written_again_evaluates_to_equal_numbers(tmp_path, monkeypatch, limit):
    """In v5 and, if an array is too large for it, in v7.3."""
    monkeypatch.setattr(mat, "_V5_LIMIT", limit)
    first = read_export(released_export(tmp_path / "MATH-own-12.mat", k_bits=12))
    path = tmp_path / "again" / "MATH-own-12.mat"
    write_export(path, first.codes, first.query_labels, first.database_labels, first.k_bits)
    assert h5py.is_hdf5(path) == (limit == 0)
    again = read_export(path)
    assert again.k_bits == 12
    for key, codes in first.codes.items():
        assert (again.codes[key] == codes).all()
    records = [evaluate_export(export).record for export in (first, again)]
    for record in records:
        del record["file"]
    assert records[0] == records[1]


def test_an_export_has_the_form_of_the_releases(tmp_path):
    codes = {key: np.array([[0b10100000]], np.uint8) for key in ("q_img", "q_txt", "r_img", "r_txt")}
    labels = np.array([[1, 0]], np.uint8)
    write_export(tmp_path / "a.mat", codes, labels, labels, k_bits=3)
    content = scipy.io.loadmat(tmp_path / "a.mat")
    for key in codes:
        assert content[key].dtype == np.float32
        assert content[key].tolist() == [[1, -1, 1]]
    assert (content["q_l"].tolist(), content["q_l"].dtype) == ([[1, 0]], np.uint8)
    del codes["q_txt"]
    with pytest.raises(InputError, match="codes: lack q_txt"):
        write_export(tmp_path / "a.mat", codes, labels, labels, k_bits=3)


def test_the_record_holds_the_options_that_determine_the_numbers(tmp_path):
    export = read_export(released_export(tmp_path / "a.mat"))
    options = {"top_k": 7, "ties": "expected", "normalizer": "hits", "no_relevant": "skip", "min_shared": 2}
    record = evaluate_export(export, at=[3, 9], **options).record
    assert {name: record[name] for name in options} == options
    assert record["directions"]["text->text"]["at"] == [3, 9]
    with pytest.raises(InputError, match=r"min_shared \(2 and 1\)"):
        require_comparable([record, evaluate_export(export).record])


@pytest.fixture(scope="module")
def random_export(tmp_path_factory):
    """Random codes. Queries with one label have no row that shares two."""
    path = tmp_path_factory.mktemp("random") / "R-own-64.mat"
    return read_export(released_export(path, k_bits=64, noise=1e9, rows=(400, 900)))


@pytest.mark.parametrize("min_shared", [1, 2, 3])
@pytest.mark.parametrize("no_relevant", ["zero", "skip"])
@pytest.mark.parametrize("normalizer", ["lineage", "hits", "min"])
def test_random_codes_score_the_chance_level_under_every_rule(random_export, min_shared, no_relevant, normalizer):
    rules = {"min_shared": min_shared, "no_relevant": no_relevant, "normalizer": normalizer, "top_k": 20}
    evaluation = evaluate_export(random_export, **rules)
    record = evaluation.record
    for direction, means in record["directions"].items():
        metrics = evaluation.metrics[direction]
        for name, values, chance in (
            ("mAP", metrics.average_precision, record["floor"]),
            ("mAP@20", metrics.average_precision_at_k, record["floor@20"]),
        ):
            error = np.nanstd(values) / np.isfinite(values).sum() ** 0.5
            assert means[name] == pytest.approx(chance, abs=4 * error), (direction, name)
        assert abs(means["normalized_score"]) < 0.05
        whole = 1 if no_relevant == "skip" else (metrics.relevant > 0).mean()
        assert means["radius_recall"][-1] == pytest.approx(whole)
        assert (means["queries_without_relevant_rows"] > 0) == (min_shared > 1)


def test_a_perfect_ranking_has_the_normalized_score_1_under_every_rule(random_export):
    labels = np.eye(4, dtype=np.uint8)[[0, 1, 2]]
    codes = {key: np.array([[0b10100000], [0b01000000], [0b00010000]], np.uint8) for key in random_export.codes}
    export = replace(random_export, k_bits=4, codes=codes, query_labels=labels[[0, 1, 2]], database_labels=labels)
    export.query_labels[2] = [0, 0, 0, 1]  # nothing is relevant to it
    for no_relevant, best in (("zero", 2 / 3), ("skip", 1)):
        means = evaluate_export(export, no_relevant=no_relevant).record["directions"]["image->text"]
        assert (means["mAP"], means["normalized_score"]) == (pytest.approx(best), pytest.approx(1))


def test_the_bootstrap_leaves_out_skipped_queries(random_export):
    better = replace(random_export, codes={key: codes & 0xF0 for key, codes in random_export.codes.items()})
    found = []
    for no_relevant in ("zero", "skip"):
        both = [evaluate_export(export, min_shared=2, no_relevant=no_relevant) for export in (random_export, better)]
        values = [item.metrics["image->text"].average_precision for item in both]
        found.append(report.differences(both, samples=100)[0]["difference"])
        assert found[-1] == pytest.approx(np.nanmean(values[1] - values[0]))
    assert abs(found[1]) > 1.2 * abs(found[0])  # skipped queries do not dilute it
