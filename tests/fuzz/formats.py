"""The formats that are read from outside: a few valid files of each, and what reads them."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import scipy.io
import torch
from fuzz import index_files
from PIL import Image
from safetensors.torch import save

from math_hash import InputError
from math_hash.config import read_yaml
from math_hash.data import open_image
from math_hash.data.collection import read_collection
from math_hash.data.embeddings import open_embeddings
from math_hash.data.images import inspect_images
from math_hash.data.records import Columns
from math_hash.encoders.state_dict import read_state_dict
from math_hash.files import read_json
from math_hash.mat import read_arrays, read_labels, read_strings

_TEXTS = ["a dog", "a longer caption, with commas", "", "été 日本"]


@dataclass(frozen=True)
class Format:
    """Valid files, name -> content, and a function that reads one; it raises `InputError`, or nothing."""

    valid: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _pictures() -> dict[str, bytes]:
    Image.init()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 4), np.uint8)
    picture, grey = Image.fromarray(pixels[..., :3].copy()), Image.fromarray(pixels[..., 0] * np.uint16(257))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [kind for kind in ("png", "webp", "gif", "bmp", "tiff", "ppm", "avif") if f".{kind}" in Image.EXTENSION]
    files = {f"a.{kind}": _written(lambda to, kind=kind: picture.save(to, kind)) for kind in kinds}
    files["turned.jpeg"] = _written(lambda to: picture.save(to, "jpeg", exif=exif))
    files["progressive.jpeg"] = _written(lambda to: picture.save(to, "jpeg", progressive=True))
    files["alpha.png"] = _written(lambda to: Image.fromarray(pixels).save(to, "png"))
    files["palette.png"] = _written(lambda to: picture.convert("P").save(to, "png", transparency=3))
    files["grey.tiff"] = _written(lambda to: grey.save(to, "tiff", compression="tiff_lzw"))
    files["float.tiff"] = _written(lambda to: Image.fromarray(pixels[..., 0] / np.float32(255)).save(to, "tiff"))
    return files


def _read_picture(path: Path) -> None:
    inspect_images([path], workers=1)
    open_image(path)


def _mat() -> dict[str, bytes]:
    labels, cells = np.eye(4, 3), np.array(_TEXTS, object).reshape(-1, 1)
    content = {"label": labels, "index": cells, "caption": np.array(_TEXTS)}
    files = {
        f"{name}.mat": _written(lambda to, o=options: scipy.io.savemat(to, content, **o))
        for name, options in {"v5": {}, "v7": {"do_compression": True}}.items()
    }
    files["v4.mat"] = _written(lambda to: scipy.io.savemat(to, {"label": labels, "caption": ["ab", "cd"]}, format="4"))
    files["sparse.mat"] = _written(lambda to: scipy.io.savemat(to, {"label": scipy.sparse.csc_array(labels)}))

    def hdf5(to: io.BytesIO) -> None:
        with h5py.File(to, "w", userblock_size=512) as file:
            file.create_dataset("label", data=labels.T, compression="gzip")
            file["caption"] = np.array([[ord(letter) for letter in text.ljust(30)] for text in _TEXTS], np.uint16).T
            parts = [file.create_dataset(f"#refs#/{place}", data=[[65], [66]]) for place in range(4)]
            file.create_dataset("index", data=[[part.ref for part in parts]], dtype=h5py.ref_dtype)

    return {**files, "v73.mat": _written(hdf5)}


def _read_mat(path: Path) -> None:
    for read in (
        lambda: read_labels(path, "label"),
        lambda: read_strings(path, "index"),
        lambda: read_strings(path, "caption"),
        lambda: read_arrays(path, ["label", "index"]),
    ):
        with suppress(InputError):
            read()


def _weights() -> dict[str, bytes]:
    state = {"a.weight": torch.ones(4, 3), "a.bias": torch.zeros(4, dtype=torch.bfloat16), "n": torch.tensor(3)}
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4)))
    return {
        "a.safetensors": save(state),
        "a.pt": _written(lambda to: torch.save({"state_dict": state}, to)),
        "old.pt": _written(lambda to: torch.save(state, to, _use_new_zipfile_serialization=False)),
        "scripted.pt": _written(lambda to: torch.jit.save(scripted, to)),
    }


def _json() -> dict[str, bytes]:
    return {"a.json": json.dumps({"k_bits": 16, "texts": _TEXTS, "nested": {"a": [1, 2.5, None, True]}}).encode()}


def _yaml() -> dict[str, bytes]:
    return {"a.yaml": b"k_bits: 16\nlr: 0.001\nmethod_options: {widths: [64, 128], name: 'word'}\ndataset: \"coco\"\n"}


def _tables() -> dict[str, bytes]:
    row = {"labels": "dog,cat", "n": 1}
    rows = [{"id": f"{n}", "image": f"{n}.jpg", "text": text, **row} for n, text in enumerate(_TEXTS)]
    csv = ["id,image,text,labels", *(f'{row["id"]},{row["image"]},"{row["text"]}","dog,cat"' for row in rows)]
    return {
        "a.jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
        "a.csv": "\r\n".join(csv).encode(),
        "wide.csv": "\n".join(csv).encode("utf-16"),
    }


def _tar() -> dict[str, bytes]:
    picture = _written(lambda to: Image.new("RGB", (8, 8), "red").save(to, "png"))
    parts = {"a.png": picture, "a.txt": b"a dog", "a.cls": b"dog", "b.json": b'{"text": ["a", "b"]}', "b.png": picture}

    def write(kind: int) -> bytes:
        def fill(to: io.BytesIO) -> None:
            with tarfile.open(fileobj=to, mode="w", format=kind) as archive:
                for name, content in parts.items():
                    member = tarfile.TarInfo("long" * 40 + "/" + name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

        return _written(fill)

    return {"gnu.tar": write(tarfile.GNU_FORMAT), "pax.tar": write(tarfile.PAX_FORMAT)}


def _read_collection(path: Path) -> None:
    _consume(read_collection(path, Columns())[1])


def _embeddings() -> dict[str, bytes]:
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    table = pyarrow.table({"vector": list(vectors), "text": _TEXTS * 5, "n": list(range(20))})
    plain = _written(lambda to: np.save(to, vectors))
    return {
        "a.parquet": _written(lambda to: pyarrow.parquet.write_table(table, to)),
        "plain.parquet": _written(lambda to: pyarrow.parquet.write_table(table, to, compression="none")),
        "img_emb_0.npy": plain,
        "half.npy": _written(lambda to: np.save(to, vectors.astype(np.float16))),
    }


def _read_embeddings(path: Path) -> None:
    if path.suffix == ".npy":
        folder = path.with_name("clip_retrieval")
        (folder / "img_emb").mkdir(parents=True, exist_ok=True)
        (folder / "img_emb" / "img_emb_0.npy").write_bytes(path.read_bytes())
        path = folder
    _consume(open_embeddings(path, "image", Columns()).records())


def _consume(records: Iterable[object]) -> None:
    for _ in records:
        pass


FORMATS = {
    "pictures": Format(_pictures, _read_picture),
    "mat": Format(_mat, _read_mat),
    "weights": Format(_weights, read_state_dict),
    "json": Format(_json, read_json),
    "yaml": Format(_yaml, read_yaml),
    "tables": Format(_tables, _read_collection),
    "tar": Format(_tar, _read_collection),
    "embeddings": Format(_embeddings, _read_embeddings),
    "index": Format(index_files.valid, index_files.read),
}
