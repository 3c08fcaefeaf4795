"""The demo dataset: the same scenes for the same seed, with natural labels and captions."""

import json

import numpy as np

from math_hash.data import read_dataset
from math_hash.data.building import demo


def test_the_demo_draws_the_same_scenes_again(tmp_path, run):
    for name in ("one", "two"):
        assert run(demo, "--output", tmp_path / name, "--rows", "30")[0] == 0
    first, second = (read_dataset(tmp_path / name) for name in ("one", "two"))
    assert first.captions == second.captions
    assert (first.labels == second.labels).all()
    assert [p.read_bytes() for p in map(first.image_path, range(30))] == [
        p.read_bytes() for p in map(second.image_path, range(30))
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    manifest = json.loads((tmp_path / "one/manifest.json").read_text())
    assert (manifest["protocol"], manifest["rows"], len(manifest["label_names"])) == ("demo", 30, 20)


def test_demo_scenes_have_one_to_six_labels_and_captions_that_do_not_merely_list_them():
    drawn = [demo.draw_scene(row, seed=1) for row in range(300)]
    counts = [len(labels) for _, labels, _ in drawn]
    assert (min(counts), max(counts)) == (1, 6)
    assert all(64 <= side <= 96 for image, _, _ in drawn for side in image.size)
    spelled = [np.mean([label in caption for label in labels]) for _, labels, caption in drawn]
    assert 0.1 < np.mean(spelled) < 0.6
    assert {label for _, labels, _ in drawn for label in labels} == set(demo.LABELS)
