"""Checking a dataset folder that was made elsewhere, and drawing its rows."""

import json

from miniatures import write_shards
from PIL import Image

from math_hash.cli import main
from math_hash.data.building import custom


def test_a_folder_from_elsewhere_can_be_checked_and_drawn(tmp_path, run, capsys):
    shards = write_shards(tmp_path / "shards")
    assert run(custom, shards, "--output", tmp_path / "mine")[0] == 0
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 0
    assert "labels          3, 1 (0 to 2) per row" in capsys.readouterr().out
    assert main(["dataset", "show", str(tmp_path / "mine"), "--rows", "2"]) == 0
    assert Image.open(tmp_path / "mine.png").width > 900
    (tmp_path / "mine/manifest.json").unlink()  # folders made elsewhere have none
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "row 2 has no label" in capsys.readouterr().err
    assert main(["dataset", "check", str(tmp_path / "mine"), "--allow-unlabelled", "--image-root", str(shards)]) == 0
    manifest = json.loads((tmp_path / "mine/manifest.json").read_text())
    assert (manifest["rows"], manifest["label_names"][1]) == (3, "dog")
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 0  # the manifest now records the rest
    (shards / "train-001.tar").write_bytes(b"")
    capsys.readouterr()
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "1 of 3 pictures are unusable" in capsys.readouterr().err
    assert "train-001.tar/0002.webp" in (tmp_path / "mine/rejected.tsv").read_text()
    content = bytearray((tmp_path / "mine/label.mat").read_bytes())
    content[30] ^= 1
    (tmp_path / "mine/label.mat").write_bytes(content)
    assert main(["dataset", "check", str(tmp_path / "mine")]) == 2
    assert "has changed since it was written" in capsys.readouterr().err
