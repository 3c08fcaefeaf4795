"""Pictures are served only from the collection's folder."""

import os
import shutil

import numpy as np
import pytest
from retrieval.server.fixtures import TOKEN, png

from math_hash.retrieval import open_index

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.retrieval.server.app import make_app

pytestmark = pytest.mark.server


def test_pictures_come_only_from_the_root(model, tiny_dataset, tmp_path, start_server):
    root = tmp_path / "root"
    shutil.copytree(tiny_dataset, root)
    (tmp_path / "secret.png").write_bytes(png())
    os.symlink(tmp_path / "secret.png", root / "link.png")
    with open_index(tmp_path / "i", 16, model.fingerprint) as index:
        names = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "0.png", "", "x\0y", "manifest.json"]
        metadata = [{"image": name} for name in names]
        index.add(range(len(names)), np.zeros((len(names), 2), np.uint8), metadata)
        client = start_server(make_app(index, model, root))
        for row, name in enumerate(names):
            status = client.get("/image", params={"id": str(row)}).status_code
            assert status == (200 if name == "0.png" else 404), name
        assert client.post("/rows", data={"id": "a", "text": "b"}, headers=TOKEN).status_code == 403
