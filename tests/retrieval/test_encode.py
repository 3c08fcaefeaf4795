"""From a trained model to codes, an index and a search, on the command line."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ON_CPU, launcher
from PIL import Image

import math_hash
from math_hash.cli import main
from math_hash.data import read_dataset
from math_hash.errors import InputError
from math_hash.hamming.codes import unpack
from math_hash.models.hub import save_pretrained
from math_hash.models.onnx import OnnxModel, export_onnx
from math_hash.retrieval import encode, open_index
from math_hash.retrieval.encode import CodesFolder, encode_collection


def command(*arguments):
    return main([str(argument) for argument in arguments])


def rows_of(folder):
    opened = CodesFolder.open(folder)
    return opened, list(opened.rows())


def test_a_datasets_folder_gives_the_codes_of_encode_image(trained_run, model, tiny_dataset, tmp_path):
    assert (
        command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c", "--batch-size", 7, "--continuous") == 0
    )
    folder, rows = rows_of(tmp_path / "c")
    data = read_dataset(tiny_dataset)
    paths = [data.image_path(row) for row in range(60)]
    assert (folder.codes == model.encode_image(paths)).all()
    assert np.allclose(folder.continuous, model.encode_image(paths, output="continuous"), atol=1e-3)
    assert [name for name, _ in rows] == data.images
    assert rows[0][1]["label"] == data.label_texts[0].split()
    assert folder.config["model"] == model.fingerprint
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "t", "--modality", "text") == 0
    folder, rows = rows_of(tmp_path / "t")
    kept = [row for row in range(60) if data.captions[row]]  # rows without a text are listed
    assert (folder.codes == model.encode_text([data.captions[row] for row in kept])).all()
    assert len((tmp_path / "t/rejected.tsv").read_text().splitlines()) == 60 - len(kept) == folder.config["rejected"]


def test_folders_tables_texts_and_tars_of_a_persons_own(trained_run, model, tmp_path):
    pictures = tmp_path / "pictures"
    for name, colour in (("a/1.png", "red"), ("a/b/2.jpg", "green"), ("3.png", "blue")):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(pictures / name)
    (pictures / "broken.jpg").write_bytes(b"no picture")
    wanted = {name: model.encode_image([pictures / name])[0] for name in ("3.png", "a/1.png", "a/b/2.jpg")}

    (tmp_path / "table.csv").write_text(
        'id,image,text,labels,year\nx,a/1.png,red thing,"red,warm",2001\ny,missing.png,,,\nz,../out.png,,,\n'
    )
    (tmp_path / "lines.jsonl").write_text('{"id": "q", "text": "a text", "size": 3}\n{"id": "r"}\nno json\n')
    (tmp_path / "texts.txt").write_text("a red circle\n\nblue\n", encoding="utf-8")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(pictures / "3.png", "s1.png")
        archive.add(pictures / "a/1.png", "s2.png")

    def encoded(source, *flags):
        output = tmp_path / f"{source.name}.codes"
        assert command("encode", trained_run, source, "--output", output, *flags) == 0
        folder, rows = rows_of(output)
        return {name: (code, about) for code, (name, about) in zip(folder.codes, rows, strict=True)}, (
            output / "rejected.tsv"
        ).read_text()

    found, rejected = encoded(pictures, "--num-workers", 0)
    assert {name: code.tolist() for name, (code, _) in found.items()} == {n: c.tolist() for n, c in wanted.items()}
    assert rejected.count("\n") == 1
    assert "broken.jpg" in rejected
    found, rejected = encoded(tmp_path / "table.csv", "--image-root", pictures, "--label-column", "labels")
    assert (found["x"][0] == wanted["a/1.png"]).all()
    assert found["x"][1] == {"image": "a/1.png", "text": "red thing", "label": ["red", "warm"], "year": "2001"}
    assert "missing.png" in rejected
    assert "leads out of the image root" in rejected
    found, rejected = encoded(tmp_path / "lines.jsonl", "--modality", "text")
    assert (found["q"][0] == model.encode_text(["a text"])[0]).all()
    assert found["q"][1] == {"text": "a text", "size": 3}
    assert "has no text" in rejected
    assert "not JSON" in rejected
    found, rejected = encoded(tmp_path / "texts.txt")
    assert (found["3"][0] == model.encode_text(["blue"])[0]).all()
    assert "line 2" in rejected
    found, _ = encoded(tmp_path / "shard.tar")
    assert {name: code.tolist() for name, (code, _) in found.items()} == {
        "s1": wanted["3.png"].tolist(), "s2": wanted["a/1.png"].tolist(),
    }  # fmt: skip


_SLOW = """
import sys, time, math_hash.retrieval.encode as encode
from math_hash.cli import main
encode.SHARD = 8
write = encode._Shard.write
def slow(*arguments):
    write(*arguments); print("shard", flush=True); time.sleep(0.2)
encode._Shard.write = slow
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_resumed_it_is_byte_equal(trained_run, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "SHARD", 8)
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "once", "--batch-size", 4) == 0
    arguments = [
        "encode",
        trained_run,
        tiny_dataset,
        "--output",
        tmp_path / "again",
        "--batch-size",
        4,
        "--num-workers",
        0,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *map(str, arguments)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "again").exists()
    kept = len(list((tmp_path / ".again.parts").glob("*.codes")))
    assert kept >= 3
    calls = []
    write = encode._Shard.write
    monkeypatch.setattr(encode._Shard, "write", lambda *a: (calls.append(1), write(*a)))
    assert command(*arguments) == 0
    assert len(calls) <= 8 - 3
    for name in ("codes.npy", "rows.jsonl", "rejected.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert not (tmp_path / ".again.parts").exists()


def test_what_changed_in_the_collection_meanwhile_is_encoded_again(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "SHARD", 2)
    texts, write, calls = tmp_path / "texts.txt", encode._Shard.write, []

    def interrupted(*arguments):
        write(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    texts.write_text("one\ntwo\nthree\nfour\nfive\nsix\nseven\n")
    arguments = ["encode", trained_run, texts, "--output"]
    with monkeypatch.context() as patch:
        patch.setattr(encode._Shard, "write", interrupted)
        assert command(*arguments, tmp_path / "again") == 130
    texts.write_text("one\ntwo\nthree\nquattro\n")
    assert command(*arguments, tmp_path / "again") == 0
    assert command(*arguments, tmp_path / "once") == 0
    for name in ("codes.npy", "rows.jsonl", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_two_processes_give_the_same_bytes(trained_run, tiny_dataset, tmp_path):
    code = _SLOW.replace("time.sleep(0.2)", "pass")
    (tmp_path / "go.py").write_text(code)
    common = ["encode", str(trained_run), str(tiny_dataset), "--batch-size", "4", "--num-workers", "0"]
    for name, launch in (("one", [sys.executable]), ("two", launcher(2))):
        done = subprocess.run(
            [*launch, str(tmp_path / "go.py"), *common, "--output", str(tmp_path / name)],
            capture_output=True, text=True, timeout=300, env=os.environ | ON_CPU,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    for name in ("codes.npy", "rows.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_index_and_search_from_the_shell(trained_run, model, tiny_dataset, tmp_path, capsys):
    codes, index = tmp_path / "c", tmp_path / "i"
    assert command("encode", trained_run, tiny_dataset, "--output", codes, "--continuous") == 0
    assert command("index", codes, "--to", index) == 0
    capsys.readouterr()
    assert command("search", index, "--model", trained_run, "--text", "red", "--top", 5, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    distances = np.bitwise_count(CodesFolder.open(codes).codes ^ model.encode_text(["red"])).sum(axis=1)
    assert [result["distance"] for result in found] == np.sort(distances)[:5].tolist()
    assert [result["id"] for result in found] == [f"{row}.png" for row in np.argsort(distances, kind="stable")[:5]]
    picture = tiny_dataset / "7.png"
    assert (
        command("search", index, "--model", trained_run, "--image", picture, "--radius", 0, "--filter", "label=red")
        == 0
    )
    table = capsys.readouterr().out
    assert all("red" in line for line in table.splitlines()[1:])
    sheet = tmp_path / "found.html"
    arguments = ["search", index, "--model", trained_run, "--text", "<red>", "--images", tiny_dataset, "--html", sheet]
    assert command(*arguments, "--top", 4) == 0
    assert sheet.read_text().count("data:image/jpeg") == 4
    assert "<h1>&lt;red&gt;" in sheet.read_text()
    assert (
        command("search", index, "--model", trained_run, "--text", "red", "--rerank", codes, "--top", 7, "--json") == 0
    )
    capsys.readouterr()
    assert (
        command("search", index, "--model", trained_run, "--text", "red", "--rerank", codes, "--top", 60, "--json") == 0
    )
    reranked = [result["id"] for result in json.loads(capsys.readouterr().out)]
    query = model.encode_text(["red"], output="continuous")[0]
    kept = np.array(CodesFolder.open(codes).continuous, np.float32)
    order = np.argsort(-(kept @ query / np.linalg.norm(kept, axis=1)), kind="stable")
    cosine = (kept @ query / np.linalg.norm(kept, axis=1))[order]
    places = [int(name.removesuffix(".png")) for name in reranked]
    assert np.allclose((kept @ query / np.linalg.norm(kept, axis=1))[places], cosine, atol=1e-6)


def test_fewer_bits_without_retraining(trained_run, model, tiny_dataset, tmp_path, capsys):
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "all") == 0
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "few", "--bits", 5) == 0
    everything, few = CodesFolder.open(tmp_path / "all"), CodesFolder.open(tmp_path / "few")
    chosen = unpack(everything.codes, 16)[:, model.bit_order[:5]]
    assert (unpack(few.codes, 5) == chosen).all()
    cut = everything.keep_bits(5)
    assert (cut.codes == few.codes).all()
    assert cut.config["model"] == few.config["model"]
    assert command("index", tmp_path / "all", "--to", tmp_path / "i", "--bits", 5) == 0
    assert command("search", tmp_path / "i", "--model", trained_run, "--text", "red", "--bits", 5) == 0
    assert command("search", tmp_path / "i", "--model", trained_run, "--text", "red") == 2
    assert command("index", tmp_path / "all", "--to", tmp_path / "j", "--bits", 17) == 2
    assert "17" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(trained_run, tiny_dataset, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("name,picture\na,b\n")
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c") == 0
    assert command("index", tmp_path / "c", "--to", tmp_path / "i") == 0
    broken = tmp_path / "c2"
    assert command("encode", trained_run, tiny_dataset, "--output", broken, "--modality", "text") == 0
    content = (broken / "codes.npy").read_bytes()
    (broken / "codes.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    capsys.readouterr()
    for arguments, message in (
        (["encode", trained_run, tmp_path / "none", "--output", tmp_path / "x"], "not there"),
        (["encode", trained_run, tmp_path / "empty", "--output", tmp_path / "x"], "holds no pictures"),
        (["encode", trained_run, tmp_path / "table.csv", "--output", tmp_path / "x"], "--image-column"),
        (["encode", tmp_path / "none", tiny_dataset, "--output", tmp_path / "x"], "no such model"),
        (["encode", trained_run, tiny_dataset, "--output", tmp_path / "c"], "is there already"),
        (["index", tmp_path / "none", "--to", tmp_path / "x"], "no codes are there"),
        (["index", broken, "--to", tmp_path / "x"], "has changed"),
        (["index", tmp_path / "c", "--to", tmp_path / "i"], "already"),
        (["search", tmp_path / "none", "--model", trained_run, "--text", "x"], "no index is there"),
        (["search", tmp_path / "i", "--model", trained_run, "--image", tmp_path / "none.jpg"], "no such picture"),
        (["search", tmp_path / "i", "--model", trained_run, "--text", "x", "--filter", "label"], "NAME=VALUE"),
        (["serve", tmp_path / "i", "--model", trained_run, "--host", "0.0.0.0"], "needs --token"),
        (["serve", tmp_path / "i", "--model", trained_run, "--images", tmp_path / "none"], "no such folder"),
    ):
        assert command(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_another_models_codes_are_refused(trained_run, model, tiny_dataset, tmp_path, capsys):
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c") == 0
    assert command("index", tmp_path / "c", "--to", tmp_path / "i") == 0
    other = math_hash.load_model(trained_run)
    other.head.load_state_dict({name: value + 0.01 for name, value in other.head.state_dict().items()})
    other.save(tmp_path / "other")
    assert command("search", tmp_path / "i", "--model", tmp_path / "other", "--text", "x") == 2
    assert "another model" in capsys.readouterr().err


def test_onnx_gives_the_codes_of_pytorch(trained_run, model, tiny_dataset, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    assert command("export", trained_run, "--format", "onnx", "--output", tmp_path / "m") == 0
    exported = math_hash.load_model(tmp_path / "m")
    assert isinstance(exported, OnnxModel)
    assert exported.fingerprint == model.fingerprint
    data = read_dataset(tiny_dataset)
    paths, texts = [data.image_path(row) for row in range(60)], data.captions
    for name, items in (("encode_image", paths), ("encode_text", texts)):
        wanted = getattr(model, name)(items, output="continuous", batch_size=9)
        found = getattr(exported, name)(items, output="continuous", batch_size=17)
        assert np.abs(wanted - found).max() < 1e-4
        assert (getattr(model, name)(items) == getattr(exported, name)(items)).all()
    encode_collection(exported, tiny_dataset, tmp_path / "c", num_workers=0, progress=False)
    with open_index(tmp_path / "i", 16, exported.fingerprint) as index:
        index.require_model(model.fingerprint, model.k_bits)
    (tmp_path / "m/image.onnx").write_bytes(b"damaged")
    with pytest.raises(InputError, match="has changed"):
        math_hash.load_model(tmp_path / "m")
    with pytest.raises(InputError, match="is there already"):
        export_onnx(model, tmp_path / "m")


def test_a_saved_model_has_a_card_and_comes_back_from_a_hub(trained_run, model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "own")
    assert math_hash.load_model(tmp_path / "own").fingerprint == model.fingerprint
    save_pretrained(model, tmp_path / "saved", "somebody/tiny")
    card = (tmp_path / "saved/README.md").read_text()
    assert f"| image->text | {model.results['mAP']['image->text']:.4f}" in card
    assert 'load_model("somebody/tiny")' in card
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path / "saved")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    back = math_hash.load_model("somebody/tiny")
    assert back.fingerprint == model.fingerprint
    assert back.results == model.results
    assert asked[0][0] == "somebody/tiny"
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in asked[0][1])


def test_a_model_is_uploaded_with_its_card(model, monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, token):
            uploaded["token"] = token

        def create_repo(self, name, private, exist_ok):
            uploaded["private"] = private
            return f"https://hub.example/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded["files"] = sorted(path.name for path in Path(folder_path).iterdir())

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert model.push_to_hub("somebody/tiny", private=True, token="t") == "https://hub.example/somebody/tiny"
    assert uploaded == {
        "token": "t", "private": True, "files": ["README.md", "config.json", "model.safetensors", "results.json"],
    }  # fmt: skip


def test_a_name_that_the_hub_does_not_know_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="no model of that name") as caught:
        math_hash.load_model("nobody/nothing")
    assert "\n" not in str(caught.value)
