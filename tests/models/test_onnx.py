"""Models as ONNX files."""

import json
import re
import shutil

import numpy as np
import pytest

import math_hash
from math_hash.cli import main
from math_hash.data import read_dataset
from math_hash.errors import InputError
from math_hash.models.onnx import OnnxModel, export_onnx
from math_hash.retrieval import open_index
from math_hash.retrieval.encode import encode_collection
from math_hash.retrieval.searcher import Searcher


@pytest.mark.slow
def test_onnx_gives_the_codes_of_pytorch(trained_run, model, tiny_dataset, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    assert main(["export", str(trained_run), "--format", "onnx", "--output", str(tmp_path / "m")]) == 0
    exported = math_hash.load_model(tmp_path / "m")
    assert isinstance(exported, OnnxModel)
    assert exported.fingerprint == model.fingerprint
    data = read_dataset(tiny_dataset)
    paths, texts = [data.image_path(row) for row in range(60)], data.captions
    for name, items in (("encode_image", paths), ("encode_text", texts)):
        wanted = getattr(model, name)(items, output="continuous", batch_size=9)
        given = getattr(exported, name)(items, output="continuous", batch_size=17)
        assert np.abs(wanted - given).max() < 1e-4
        assert (getattr(model, name)(items) == getattr(exported, name)(items)).all()
    encode_collection(exported, tiny_dataset, tmp_path / "c", num_workers=0, progress=False)
    with open_index(tmp_path / "i", 16, exported.fingerprint) as index:
        index.require_model(model.fingerprint, model.k_bits)
    assert exported.thresholds == model.thresholds
    assert exported.encode_query("text", "red")[1] is None
    with pytest.raises(InputError, match="gives codes"):
        exported.encode_text(["red"], output="vector")
    with pytest.raises(InputError, match="`vectors`: this model's format gives codes only"):
        encode_collection(exported, tiny_dataset, tmp_path / "v", vectors=True, num_workers=0, progress=False)
    with open_index(tmp_path / "i") as index, pytest.raises(InputError, match="`rerank` vectors: this model's format"):
        Searcher(index, exported, "vectors", tmp_path / "c")
    capsys.readouterr()
    int8_weights_agree_with_pytorch(trained_run, model, tiny_dataset, tmp_path, monkeypatch, capsys)
    flags = ["--dataset-root", str(tiny_dataset.parent), "--dataset", "tiny", "--k-bits", str(model.k_bits)]
    flags += ["--query-num", "10", "--train-num", "40", "--val-num", "9", "--pretrained", str(tmp_path / "m")]
    assert main(["evaluate", *flags]) == 2
    assert "is an exported model, such as ONNX" in capsys.readouterr().err
    (tmp_path / "m/image.onnx").write_bytes(b"damaged")
    with pytest.raises(InputError, match="has changed"):
        math_hash.load_model(tmp_path / "m")
    with pytest.raises(InputError, match="already exists"):
        export_onnx(model, tmp_path / "m")


def int8_weights_agree_with_pytorch(trained_run, model, tiny_dataset, tmp_path, monkeypatch, capsys):
    """A part of the test above, which has exported the model to `m`."""
    monkeypatch.setattr("math_hash.models.onnx.export_onnx", lambda _, folder: shutil.copytree(tmp_path / "m", folder))
    arguments = ["export", str(trained_run), "--format", "onnx", "--output", str(tmp_path / "q"), "--quantize", "int8"]
    assert main(arguments) == 2
    assert "--compare-on INPUT" in capsys.readouterr().err
    assert main([*arguments, "--compare-on", str(tiny_dataset)]) == 0
    printed = capsys.readouterr().out
    small, data = math_hash.load_model(tmp_path / "q"), read_dataset(tiny_dataset)
    assert (small.precision, small.fingerprint) == ("int8", model.fingerprint)
    agreement = json.loads((tmp_path / "q/config.json").read_text())["agreement"]
    texts = [text for text in data.captions if text]
    for modality, items in (("image", [data.image_path(row) for row in range(60)]), ("text", texts)):
        wanted = getattr(model, f"encode_{modality}")(items, output="continuous")
        given = getattr(small, f"encode_{modality}")(items, output="continuous")
        assert 0 < np.abs(wanted - given).max() < 0.05
        assert agreement[modality] == pytest.approx(((wanted >= 0) == (given >= 0)).mean(), abs=2e-3)
        assert agreement[modality] > 0.97
        assert f"{100 * agreement[modality]:.2f} % of bits of {len(items)} {modality}s" in printed
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("q", "m")]
    assert sizes[0] < sizes[1] / 3
    assert [float(size) for size in re.findall(r"([\d.]+) MB", printed)] == pytest.approx(
        np.divide(sizes, 1e6), abs=0.1
    )
    with pytest.raises(InputError, match="precision is fixed"):
        math_hash.load_model(tmp_path / "q", precision="bf16")
