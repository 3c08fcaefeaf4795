"""Options that change how a step is computed, but not its result."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training.runs import losses

from math_hash.cli import main_py
from math_hash.config import Config
from math_hash.data import load_batches, read_dataset, split_rows
from math_hash.data.pairs import to_device
from math_hash.errors import InputError
from math_hash.models.load import read_saved
from math_hash.testing.double_precision import recorded_training
from math_hash.training import batch_size, loop
from math_hash.training.bert_adam import BertAdam
from math_hash.training.code_bank import CodeBank
from math_hash.training.memory import memory_errors
from math_hash.training.run_folder import Run
from math_hash.training.setup import Data
from math_hash.training.step import TrainingStep


def trained(tiny_flags, folder, *options):
    assert main_py(["--is-train", *tiny_flags, "--save-dir", str(folder), *options]) == 0
    return losses(folder)


def with_and_without(tiny_flags, tmp_path, option, double=True):
    """The recorded steps of a training without an option, and of one with it."""
    runs = []
    for folder, options in (("plain", []), ("changed", [option])):
        with recorded_training(double) as steps:
            trained(tiny_flags, tmp_path / folder, *options)
        runs.append(steps)
    return runs


def equal_in_double_precision(tiny_flags, tmp_path, option):
    """An option does not change the steps' terms and the first gradients; see `recorded_training`."""
    runs = with_and_without(tiny_flags, tmp_path, option)
    for one, other in zip(*runs, strict=True):
        assert other["terms"] == pytest.approx(one["terms"], rel=1e-7)
    for name, gradient in runs[0][0]["gradients"].items():
        assert torch.allclose(gradient.to_dense(), runs[1][0]["gradients"][name].to_dense(), rtol=1e-7, atol=1e-12), (
            name
        )


@pytest.mark.slow
def test_gradient_checkpointing_does_not_change_the_losses(tiny_flags, tmp_path):
    equal_in_double_precision(tiny_flags, tmp_path, "--gradient-checkpointing")


@pytest.mark.slow
def test_cached_pictures_are_decoded_once_and_change_nothing(tiny_flags, tmp_path, monkeypatch):
    plain = trained(tiny_flags, tmp_path / "plain")
    cache = ["--image-cache", "1", "--cache-dir", str(tmp_path / "cache")]
    trained(tiny_flags, tmp_path / "first", *cache)
    assert losses(tmp_path / "first") == plain

    def refuse(source):
        raise AssertionError(f"decoded again: {source}")

    monkeypatch.setattr("math_hash.data.pairs.open_image", refuse)
    monkeypatch.setattr("math_hash.training.plots.plot_history", lambda *arguments: None)
    trained(tiny_flags, tmp_path / "second", *cache)
    assert losses(tmp_path / "second") == plain
    results = [json.loads((tmp_path / name / "results.json").read_text())["mAP"] for name in ("plain", "second")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_bounded_cache_keeps_the_first_rows(tiny_flags, tmp_path, monkeypatch, capsys):
    side = 32 * 32 * 3 * 2  # both forms of a picture
    cache = ["--image-cache", str(20.5 * side / 1e9), "--cache-dir", str(tmp_path / "cache")]
    plain = trained(tiny_flags, tmp_path / "plain")
    assert trained(tiny_flags, tmp_path / "some", *cache) == plain
    kept = np.load(next((tmp_path / "cache").glob("*/train.npy")))
    assert kept.shape == (20, 3, 32, 32)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert main_py(["--is-train", *tiny_flags, "--image-cache", "1", *cache[2:]]) == 2
    assert "lacks" in capsys.readouterr().err


@pytest.mark.parametrize("masked", [True, False])
def test_padding_of_a_whole_batch_is_left_out_if_it_changes_nothing(tiny_flags, tiny_dataset, tmp_path, masked):
    trained(tiny_flags, tmp_path / "run", *([] if masked else ["--no-mask-padding"]))
    model = read_saved(tmp_path / "run")
    folder = read_dataset(tiny_dataset)
    pairs = Data(folder, None, None, {}, unusable=0, pairs_only=False).pairs(model).with_streams(("text", "label"))
    batch = next(iter(load_batches(pairs, [np.arange(20)])))
    ids = pairs.text_ids.of_rows(range(20))
    lengths = (ids.argmax(dim=1).max() + 1).item()
    assert batch["text"].shape[1] == (lengths if masked else model.max_words)
    assert lengths < model.max_words
    with torch.no_grad():
        assert torch.allclose(model.hash_text(batch["text"]), model.hash_text(ids), atol=1e-6)


@pytest.mark.slow
def test_compiled_blocks_do_not_change_the_losses(tiny_flags, tmp_path, monkeypatch):
    # the cache of compiled code does not tell instruction sets apart
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        equal_in_double_precision(tiny_flags, tmp_path, "--compile")
        return
    # for other instruction sets, PyTorch's code for doubles is not valid C++: the first step, up to rounding
    (plain, *_), (compiled, *_) = with_and_without(tiny_flags, tmp_path, "--compile", double=False)
    assert compiled["terms"] == pytest.approx(plain["terms"], rel=1e-5)
    for name, gradient in plain["gradients"].items():
        gradient, other = gradient.to_dense(), compiled["gradients"][name].to_dense()
        assert float((gradient - other).norm()) <= 1e-3 * float(gradient.norm()) + 1e-6, name


@pytest.mark.slow
def test_without_a_compiler_the_error_is_one_line(tiny_flags, tmp_path, monkeypatch, capsys):
    torch._dynamo.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.fx_graph_cache", False)
    torch._dynamo.reset()
    flags = ["--is-train", *tiny_flags, "--device", "cpu", "--compile", "--save-dir", str(tmp_path / "no")]
    assert main_py(flags) == 2
    assert "--compile: cannot compile here" in capsys.readouterr().err
    torch._dynamo.reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_step_on_a_gpu_never_waits_for_it(tiny_flags, tmp_path):
    trained(tiny_flags, tmp_path / "run")
    model = read_saved(tmp_path / "run").cuda().train()
    labels = torch.randint(0, 2, (40, 4), dtype=torch.uint8)
    step = TrainingStep(model, CodeBank(model.head.banks, labels, 0).cuda()).cuda()
    texts = model.tokenize(["two dogs", "sky", "a much longer text", ""] * 2, 12)
    inputs = {"image": torch.randn(8, 3, 32, 32), "text": texts, "label_text": texts.flip(0), "label": labels[:8]}
    inputs, rows = to_device(inputs, torch.device("cuda")), torch.arange(8, device="cuda")
    optimizer = BertAdam(model.parameters(), lr=1e-3, total_steps=9)
    for mode in ("default", "error"):  # the first step makes what later steps reuse
        torch.cuda.set_sync_debug_mode(mode)
        try:
            sum(step(inputs, rows, model.head.turns[0]).values()).backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_validation_takes_a_sample_of_the_database(tiny_flags, tmp_path, monkeypatch):
    asked = []
    encode = loop.encode_rows
    monkeypatch.setattr(loop, "encode_rows", lambda *a, **k: (asked.append(a[2]), encode(*a, **k))[1])
    trained(tiny_flags, tmp_path / "run", "--valid-rows", "7")
    first, second = asked
    assert len(first) == 9 + 7
    assert (first == second).all()
    split = split_rows(60, 10, 40, 9, 1)
    assert np.isin(first[9:], split.database).all()
    assert (first[:9] == split.val).all()


@pytest.mark.slow
def test_auto_takes_the_largest_batch_that_fits(tiny_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "STEPS", 2)
    measure, needed = batch_size._needed, {}

    def measured(step, pairs, rows, turn, accelerator, overhead):
        needed[len(rows)] = measure(step, pairs, rows, turn, accelerator, overhead)
        return needed[len(rows)]

    monkeypatch.setattr(batch_size, "_needed", measured)

    def found(free):
        monkeypatch.setattr(batch_size.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        trained(tiny_flags, tmp_path / str(free), "--batch-size", "auto", "--epochs", "1", "--device", "cpu")
        size = Run(tmp_path / str(free)).read_config()["batch_size"]
        printed = capsys.readouterr().out
        assert f"batch size   {size} " in printed
        each = (needed[16] - needed[8]) / 8
        assert f"{each / 1e6:.1f} MB per row" in printed
        return size, each

    assert found(1e6)[0] == 1
    most, each = found(1e12)
    assert most == 31 // 2  # two steps per epoch
    fixed = batch_size._fixed(read_saved(tmp_path / str(1e12)))
    sizes = [found((fixed + rows * each) / Config.memory_share)[0] for rows in (5.5, 10.5)]
    assert 1 <= sizes[0] <= 5
    assert sizes[1] == sizes[0] + 5
    assert main_py([*tiny_flags, "--pretrained", str(tmp_path / str(1e6)), "--batch-size", "auto"]) == 2
    assert "--batch-size auto" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main_py(["--is-train", *tiny_flags, "--batch-size", "some"])
    assert "nor auto" in capsys.readouterr().err


def test_too_little_memory_is_one_line_with_remedies(tiny_flags, tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(TrainingStep, "forward", full)
    assert main_py(["--is-train", *tiny_flags, "--save-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    for remedy in ("--batch-size", "--precision bf16", "--gradient-accumulation", "--gradient-checkpointing"):
        assert remedy in error.splitlines()[-1]
    with pytest.raises(InputError, match="out of memory"), memory_errors(Config()):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), memory_errors(Config()):
        raise RuntimeError("shape mismatch")
