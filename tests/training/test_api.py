"""train() and evaluate() from Python."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

import math_hash
from math_hash import InputError
from math_hash.config import Config
from math_hash.methods.dcmh import DCMH
from math_hash.methods.method import Method
from math_hash.training.keywords import Keywords


@pytest.fixture
def options(tiny_dataset, clip_file, tmp_path):
    """Keywords of a run that takes seconds."""
    return {
        "dataset_root": str(tiny_dataset.parent), "dataset": "tiny", "clip_path": str(clip_file), "resolution": 32,
        "max_words": 12, "query_num": 10, "train_num": 40, "val_num": 9, "batch_size": 8, "epochs": 1, "num_workers": 0,
        "k_bits": 12, "save_dir": str(tmp_path / "run"), "tracker": [],
    }  # fmt: skip


def test_a_run_holds_its_results_its_history_and_its_model(options, tmp_path):
    run = math_hash.train(**options, method=DCMH, method_options={"gamma": 0.2})
    assert run.path == tmp_path / "run"
    assert repr(run) == f"Run({str(run.path)!r})"
    assert run.results["method"] == "DCMH"
    assert [record["epoch"] for record in run.read_metrics()] == [run.best_epoch] == [1]
    model = run.load_model()
    assert model.method_options["gamma"] == 0.2
    assert model.encode_text(["red"]).shape == (1, 2)
    again = math_hash.evaluate(run.path, **(options | {"method": DCMH, "save_dir": str(tmp_path / "evaluated")}))
    assert again.results["mAP"] == run.results["mAP"]
    assert (again.path / "PR_curve" / "DCMH-tiny-12.mat").is_file()
    resumed = math_hash.train(resume=str(run.path))
    assert resumed.results["mAP"] == run.results["mAP"]


def test_unknown_keywords_and_wrong_values_are_one_line(options):
    with pytest.raises(InputError, match="epoch: no such option"):
        math_hash.train(**options, epoch=3)
    with pytest.raises(InputError, match="`batch_size`: '8' is not of type int"):
        math_hash.train(**{**options, "batch_size": "8"})
    with pytest.raises(InputError, match="gama: DCMH has none of that name"):
        math_hash.train(**options, method="DCMH", method_options={"gama": 1})


def test_the_keywords_are_the_fields_of_the_configuration():
    hints = get_type_hints(Keywords)
    own = get_type_hints(Config)
    assert set(hints) == {item.name for item in fields(Config)} | {"config"}
    for name, hint in own.items():
        assert hints[name] == (hint | type[Method] if name == "method" else hint), name


def test_no_error_speaks_of_flags_to_python(options, trained_run, model, tiny_dataset, tmp_path):
    again = options | {"k_bits": 8, "clip_path": "nowhere.pt"}
    codes = tmp_path / "codes"
    for call, message in (
        (lambda: math_hash.train(**options | {"k_bits": 0}), "`k_bits`: 0 is below 1"),
        (lambda: math_hash.train(**options, encoder="demo"), "`encoder` and `clip_path` both name weights"),
        (lambda: math_hash.train(**options, config="nowhere.yaml"), "`config` nowhere.yaml: cannot be read"),
        (lambda: math_hash.train(**options | {"train_num": 70}), "`query_num` 10 + `train_num` 70 = 80 rows"),
        (lambda: math_hash.train(**options, method_options={"dropout": 2.0}), "`dropout`: 2.0 is outside"),
        (lambda: math_hash.train(**options | {"max_words": 30}), "`max_words` 30: this encoder reads at most 24"),
        (lambda: math_hash.train(resume=str(trained_run), k_bits=8), "the run has `k_bits` 16; leave `k_bits` out"),
        (lambda: math_hash.evaluate(trained_run, **again), "trained with `k_bits` 16, not 8"),
        (lambda: math_hash.load_model(trained_run, precision="fp16"), "`precision` fp16: needs a GPU"),
        (lambda: model.with_bits(99), "`bits` 99: this model has 16 bits"),
        (lambda: model.encode_image(["nowhere.png"]), "no such picture; check `image_root`"),
        (lambda: math_hash.encode_collection(model, tiny_dataset, codes, modality="sound"), "`modality` sound"),
        (lambda: math_hash.open_index(tmp_path / "none"), "no index is there; make one with `math-hash index"),
    ):
        with pytest.raises(InputError) as raised:
            call()
        assert message in str(raised.value)
        assert " --" not in re.sub("`[^`]*`", "", str(raised.value))


def test_the_public_names_are_shown_and_documented():
    assert sorted(dir(math_hash)) == sorted([*math_hash.__all__, "__version__"])
    for name in math_hash.__all__:
        assert inspect.getdoc(getattr(math_hash, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        math_hash.trian  # noqa: B018 - looking it up is the test


def test_importing_the_package_imports_no_heavy_one():
    code = "import math_hash, sys; dir(math_hash); print({'torch', 'numpy', 'tqdm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
