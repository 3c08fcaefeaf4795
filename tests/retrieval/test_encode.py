"""Encoding collections of every kind, and continuing a killed run."""

import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from conftest import ON_CPU, launcher
from PIL import Image

from math_hash.cli import main
from math_hash.data import read_dataset
from math_hash.retrieval import shards
from math_hash.retrieval.codes_folder import CodesFolder


def command(*arguments):
    return main([str(argument) for argument in arguments])


def rows_of(folder):
    opened = CodesFolder.open(folder)
    return opened, list(opened.rows())


def test_a_dataset_gives_the_codes_of_encode_image(trained_run, model, tiny_dataset, tmp_path):
    assert (
        command("encode", trained_run, tiny_dataset, "--output", tmp_path / "c", "--batch-size", 7, "--continuous") == 0
    )
    folder, rows = rows_of(tmp_path / "c")
    data = read_dataset(tiny_dataset)
    paths = [data.image_path(row) for row in range(60)]
    assert (folder.codes == model.encode_image(paths)).all()
    assert np.allclose(folder.continuous, model.encode_image(paths, output="continuous"), atol=1e-3)
    assert [name for name, _ in rows] == data.images
    assert rows[0][1]["labels"] == data.label_texts[0].split()
    assert folder.config["model"] == model.fingerprint
    assert command("encode", trained_run, tiny_dataset, "--output", tmp_path / "t", "--modality", "text") == 0
    folder, rows = rows_of(tmp_path / "t")
    kept = [row for row in range(60) if data.captions[row]]  # rows without a text are listed
    assert (folder.codes == model.encode_text([data.captions[row] for row in kept])).all()
    assert len((tmp_path / "t/rejected.tsv").read_text().splitlines()) == 60 - len(kept) == folder.config["rejected"]


def test_folders_tables_texts_and_tars(trained_run, model, tmp_path):
    pictures = tmp_path / "pictures"
    for name, color in (("a/1.png", "red"), ("a/b/2.jpg", "green"), ("3.png", "blue")):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), color).save(pictures / name)
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
        return {name: (code, metadata) for code, (name, metadata) in zip(folder.codes, rows, strict=True)}, (
            output / "rejected.tsv"
        ).read_text()

    rows, rejected = encoded(pictures, "--num-workers", 0)
    assert {name: code.tolist() for name, (code, _) in rows.items()} == {n: c.tolist() for n, c in wanted.items()}
    assert rejected.count("\n") == 1
    assert "broken.jpg" in rejected
    rows, rejected = encoded(tmp_path / "table.csv", "--image-root", pictures)
    assert (rows["x"][0] == wanted["a/1.png"]).all()
    assert rows["x"][1] == {"image": "a/1.png", "text": "red thing", "labels": ["red", "warm"], "year": 2001}
    assert "missing.png" in rejected
    assert "leads out of the image root" in rejected
    rows, rejected = encoded(tmp_path / "lines.jsonl", "--modality", "text")
    assert (rows["q"][0] == model.encode_text(["a text"])[0]).all()
    assert rows["q"][1] == {"text": "a text", "size": 3}
    assert "has no text" in rejected
    assert "not JSON" in rejected
    rows, rejected = encoded(tmp_path / "texts.txt")
    assert (rows["3"][0] == model.encode_text(["blue"])[0]).all()
    assert "line 2" in rejected
    rows, _ = encoded(tmp_path / "shard.tar")
    assert {name: code.tolist() for name, (code, _) in rows.items()} == {
        "s1": wanted["3.png"].tolist(), "s2": wanted["a/1.png"].tolist(),
    }  # fmt: skip


def test_a_picture_with_five_texts_is_one_row_and_a_long_text_is_cut(trained_run, model, tiny_dataset, tmp_path):
    lines = [f"{row}.png,text {number}" for row in (3, 5) for number in range(5)]
    lines += [f"7.png,{'red ' * 250_000}", "3.png,again"]
    (tmp_path / "captions.csv").write_text("\n".join(["image,text", *lines]))
    for modality in ("image", "text"):
        flags = ["--output", tmp_path / modality, "--modality", modality, "--image-root", tiny_dataset]
        assert command("encode", trained_run, tmp_path / "captions.csv", *flags, "--num-workers", 0) == 0
        folder, rows = rows_of(tmp_path / modality)
        assert [row_id for row_id, _ in rows] == ["3.png", "5.png", "7.png"]
        assert rows[1][1] == {"image": "5.png", "text": "text 0 text 1 text 2 text 3 text 4"}
        assert "3.png came before" in (tmp_path / modality / "rejected.tsv").read_text()
    assert (folder.codes[2:] == model.encode_text(["red " * 20])).all()


_SLOW = """
import sys, time
from math_hash.retrieval import shards
from math_hash.cli import main
shards.SHARD_ROWS = 8
write = shards.Shard.write
def slow(*arguments):
    write(*arguments); print("shard", flush=True); time.sleep(0.2)
shards.Shard.write = slow
sys.exit(main([*sys.argv[1:], "--precision", "no"]))
"""


@pytest.mark.slow
def test_killed_and_resumed_it_is_byte_equal(trained_run, tiny_dataset, tmp_path, monkeypatch, shards_written):
    monkeypatch.setattr(shards, "SHARD_ROWS", 8)
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
    shards_written.count = 0
    assert command(*arguments) == 0
    assert shards_written.count <= 8 - 3
    for name in ("codes.npy", "rows.jsonl", "rejected.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert not (tmp_path / ".again.parts").exists()


def test_two_processes_do_not_write_one_output(trained_run, tmp_path, monkeypatch, capsys):
    """Parts that another call of this command puts there at the same time would be taken as this one's."""
    texts, output, write = tmp_path / "texts.txt", tmp_path / "codes", shards.Shard.write
    texts.write_text("one\ntwo\n")
    arguments = ["encode", trained_run, texts, "--output", output]
    others = []

    def write_while_another_begins(*given):
        monkeypatch.setattr(shards.Shard, "write", write)
        others.append(subprocess.run([sys.executable, "-m", "math_hash", *map(str, arguments), "--continuous"]))
        write(*given)

    monkeypatch.setattr(shards.Shard, "write", write_while_another_begins)
    assert command(*arguments) == 0
    assert [other.returncode for other in others] == [2]
    assert not CodesFolder.open(output).config["continuous"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes", "texts.txt"]


def test_records_changed_since_the_kill_are_encoded_again(trained_run, tmp_path, monkeypatch, shards_written):
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\nthree\nfour\nfive\nsix\nseven\n")
    arguments = ["encode", trained_run, texts, "--output"]
    shards_written.stop_at = 3
    assert command(*arguments, tmp_path / "again") == 130
    texts.write_text("one\ntwo\nthree\nquattro\n")
    assert command(*arguments, tmp_path / "again") == 0
    assert command(*arguments, tmp_path / "once") == 0
    for name in ("codes.npy", "rows.jsonl", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


@pytest.mark.slow
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


def test_pictures_replaced_since_the_kill_and_another_root_are_encoded_again(
    trained_run, tmp_path, monkeypatch, shards_written
):
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    for root, color in (("one", "red"), ("other", "blue")):
        (tmp_path / root).mkdir()
        for place in range(6):
            Image.new("RGB", (32, 32), color).save(tmp_path / root / f"{place}.bmp")  # all of one size, and one time
            os.utime(tmp_path / root / f"{place}.bmp", (1e9, 1e9))
    (tmp_path / "table.csv").write_text("image\n" + "".join(f"{place}.bmp\n" for place in range(6)))
    arguments = ["encode", trained_run, tmp_path / "table.csv", "--num-workers", 0, "--output"]

    def begin(output):
        shards_written.stop_at = shards_written.count + 2
        assert command(*arguments, output, "--image-root", tmp_path / "one") == 130

    begin(tmp_path / "moved")
    assert command(*arguments, tmp_path / "moved", "--image-root", tmp_path / "other") == 0
    assert command(*arguments, tmp_path / "once", "--image-root", tmp_path / "other") == 0
    assert (tmp_path / "moved/codes.npy").read_bytes() == (tmp_path / "once/codes.npy").read_bytes()
    begin(tmp_path / "replaced")
    Image.new("RGB", (33, 33), "green").save(tmp_path / "one/1.bmp")
    assert command(*arguments, tmp_path / "replaced", "--image-root", tmp_path / "one") == 0
    assert command(*arguments, tmp_path / "anew", "--image-root", tmp_path / "one") == 0
    assert (tmp_path / "replaced/codes.npy").read_bytes() == (tmp_path / "anew/codes.npy").read_bytes()
