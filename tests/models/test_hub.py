"""Downloading models from a hub, and uploading them."""

import sys
from pathlib import Path

import pytest

import math_hash
from math_hash.errors import InputError
from math_hash.models.hub import save_pretrained


def test_a_folder_of_other_things_is_not_written_into(model, tmp_path):
    (tmp_path / "README.md").write_text("of something else")
    with pytest.raises(InputError, match=r"holds other files \(no config\.json and model\.safetensors\)"):
        save_pretrained(model, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of something else"]
    for _ in range(2):  # a model may be replaced
        save_pretrained(model, tmp_path / "saved")


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
        "token": "t", "private": True,
        "files": ["README.md", "config.json", "distribution.safetensors", "model.safetensors", "results.json"],
    }  # fmt: skip


def test_a_name_that_the_hub_does_not_know_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="no model of that name") as caught:
        math_hash.load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_no_code_is_imported_by_the_name_that_a_hubs_file_holds(model, tmp_path, monkeypatch):
    model.save(tmp_path / "saved")
    (tmp_path / "from_a_hub.py").write_text("from math_hash.methods.math import MATH as Method\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "saved" / "config.json"
    config.write_text(config.read_text().replace('"method": "MATH"', '"method": "from_a_hub:Method"'))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(tmp_path / "saved"))
    with pytest.raises(InputError, match="a model from a hub may not import"):
        math_hash.load_model("somebody/tiny")
    assert "from_a_hub" not in sys.modules
    opened = math_hash.load_model(tmp_path / "saved")  # the same folder, on this machine
    assert opened.method == "from_a_hub:Method"
    assert (opened.encode_text(["red", "sky"]) == model.encode_text(["red", "sky"])).all()
