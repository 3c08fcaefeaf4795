"""Features of a frozen encoder: computed once, exact, resumable, never stale."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from training.runs import ROOT, launch

import math_hash
from math_hash.cli import main, main_py
from math_hash.data import EVERYTHING, read_dataset, split_rows
from math_hash.encoders import encoder_from_openai
from math_hash.encoders.state_dict import read_state_dict


@pytest.fixture
def frozen(tiny_flags, tiny_dataset, tmp_path):
    """Flags of a run with a frozen encoder, on a copy of the pictures."""
    shutil.copytree(tiny_dataset, tmp_path / "sets/tiny")
    return [*tiny_flags, "--dataset-root", str(tmp_path / "sets"), "--freeze-encoder"]


def option(flags, name):
    return flags[len(flags) - 1 - flags[::-1].index(name) + 1]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def caches(tmp_path):
    return sorted(path for path in (tmp_path / "cache").iterdir() if not path.name.startswith("."))


def test_the_cache_holds_the_encoders_features(frozen, tmp_path):
    assert main(["encode-features", *encode_flags(frozen), "--output", str(tmp_path / "features")]) == 0
    data = read_dataset(tmp_path / "sets/tiny")
    clip = option(frozen, "--clip-path")
    encoder = encoder_from_openai(read_state_dict(clip), 32, clip)
    with torch.no_grad():
        pixels = [encoder.image_transform(Image.open(data.image_path(row)).convert("RGB")) for row in range(60)]
        image = encoder.encode_image(torch.stack(pixels), EVERYTHING)
        text = encoder.encode_text(encoder.tokenize(data.captions, 12), EVERYTHING)
    stored = {path.stem: np.load(path) for path in (tmp_path / "features").glob("*.npy")}
    for name, features in (("image", image), ("text", text)):
        for part in ("tokens", "pooled", "stages"):
            assert np.allclose(stored[f"{name}_{part}"], getattr(features, part), rtol=1e-3, atol=1e-5), (name, part)
    assert (stored["text_length"] == (~text.padding).sum(dim=1).numpy()).all()
    assert sorted(stored) == [
        "image_pooled", "image_stages", "image_tokens", "label_length", "label_pooled", "label_tokens",
        "text_length", "text_pooled", "text_stages", "text_tokens",
    ]  # fmt: skip
    again = ["encode-features", *encode_flags(frozen), "--output", str(tmp_path / "features")]
    assert main(again) == 2


def encode_flags(flags):
    """The flags that `encode-features` has, with their values."""
    known = {"--dataset", "--dataset-root", "--clip-path", "--resolution", "--max-words", "--num-workers"}
    return [word for pair in itertools.pairwise(flags) if pair[0] in known for word in pair]


def test_a_frozen_run_uses_the_cache_and_saves_a_complete_model(frozen, tmp_path, monkeypatch):
    assert main_py(["--is-train", *frozen]) == 0
    (cache,) = caches(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    run = Path(option(frozen, "--save-dir"))
    results = json.loads((run / "results.json").read_text())
    model = math_hash.load_model(run)
    data, split = read_dataset(tmp_path / "sets/tiny"), split_rows(60, 10, 40, 9)
    exported = scipy.io.loadmat(run / "PR_curve/MATH-tiny-12.mat")
    found = model.encode_image([data.image_path(row) for row in split.query], output="bits")
    assert (found == (exported["q_img"] > 0)).mean() > 0.97  # half-precision features
    assert (run / "plots/retrieval.png").is_file()

    from math_hash.training import feature_cache

    def refuse(*arguments):
        raise AssertionError("encoded again")

    monkeypatch.setattr(feature_cache, "write_features", refuse)
    again = [*frozen, "--pretrained", str(run), "--save-dir", str(tmp_path / "again")]
    assert main_py(again) == 0
    assert json.loads((tmp_path / "again/results.json").read_text())["mAP"] == results["mAP"]
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before


@pytest.mark.parametrize("change", ["picture", "text length", "caption", "nothing"])
def test_any_change_that_affects_the_features_makes_a_new_cache(frozen, tmp_path, change):
    assert main_py(["--is-train", *frozen, "--epochs", "1"]) == 0
    more = ["--save-dir", str(tmp_path / "second"), "--epochs", "1"]
    if change == "picture":
        Image.new("RGB", (40, 36)).save(tmp_path / "sets/tiny/7.png")
    elif change == "text length":
        more += ["--max-words", "10"]
    elif change == "caption":
        from math_hash.data import write_mat

        captions = read_dataset(tmp_path / "sets/tiny").captions
        write_mat(tmp_path / "sets/tiny/caption.mat", {"caption": ["new", *captions[1:]]})
    assert main_py(["--is-train", *frozen, *more]) == 0
    assert len(caches(tmp_path)) == (1 if change == "nothing" else 2)


KILLED = """
import os, signal, sys
from math_hash.cli import main
from math_hash.training import feature_cache
feature_cache.BATCH = 8
encode, count, limit = feature_cache._encode, 0, int(sys.argv.pop(1))
def counted(*arguments):
    global count
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    encode(*arguments)
feature_cache._encode = counted
sys.exit(main())
"""


@pytest.mark.slow
def test_killed_and_resumed_and_in_two_processes_it_is_byte_equal(frozen, tmp_path, monkeypatch):
    from math_hash.training import feature_cache

    monkeypatch.setattr(feature_cache, "BATCH", 8)
    command = ["encode-features", *encode_flags(frozen), "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    killed = [sys.executable, "-c", KILLED, "4", *command, str(tmp_path / "killed")]
    done = subprocess.run(killed, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "killed").exists()
    marked = np.load(tmp_path / ".killed.partial/done.npy")
    assert marked.sum() == 3
    shutil.copytree(tmp_path / ".killed.partial", tmp_path / ".other.partial")  # begun with other options
    other = [*command, str(tmp_path / "other"), "--max-words", "9"]
    assert main(other) == 0
    assert np.load(tmp_path / "other/text_tokens.npy").shape == (60, 9, 64)
    assert main([*command, str(tmp_path / "killed")]) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    (tmp_path / "two.py").write_text(
        "import sys\nfrom math_hash.cli import main\nfrom math_hash.training import feature_cache\n"
        "feature_cache.BATCH = 8\nsys.exit(main())\n"
    )
    launch(2, [*command, str(tmp_path / "two")], tmp_path / "two.py")
    one, two = ({p.stem: np.load(p) for p in (tmp_path / name).glob("*.npy")} for name in ("whole", "two"))
    for name, values in one.items():  # one thread each: rounding may lead to the next half-precision number
        assert values.dtype == two[name].dtype, name
        close = np.spacing(np.abs(values)) if values.dtype == np.float16 else 0
        assert (np.abs(values.astype(float) - two[name]) <= close).all(), name
