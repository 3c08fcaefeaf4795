"""Files from outside are regular, bounded and plain data; what cannot be written is one line."""

import os

import h5py
import numpy as np
import pytest
import scipy.io

from math_hash import InputError, mat
from math_hash.config import read_yaml
from math_hash.data import read_dataset
from math_hash.data.collection import read_collection
from math_hash.data.records import Columns
from math_hash.data.text_files import read_lines, stream_lines
from math_hash.errors import exit_code
from math_hash.files import atomic_writer, map_array, read_bytes, read_json
from math_hash.mat import read_arrays, read_labels, read_strings
from math_hash.plain_data import parse_json

LAUGHS = "a: &a [x]\n" + "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


def test_json_that_is_too_deep_too_large_or_no_object_is_one_line(tmp_path):
    path = tmp_path / "config.json"
    for content, message in (("[" * 100_000, "nested too deeply"), ("[1]", "expected a JSON object"), ("{", "JSON")):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_json(path)
    path.write_text("{}" + " " * 100)
    with pytest.raises(InputError, match="has 102 bytes; expected at most 100"):
        read_json(path, most=100)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json('{"a":' * 100_000)
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg"}\n{"image": ' + "[" * 100_000 + "\n")
    good, deep = read_collection(tmp_path / "a.jsonl", Columns())[1]
    assert (good.problem, deep.problem) == ("", "not JSON (nested too deeply)")


@pytest.mark.parametrize(
    ("content", "message"),
    [(LAUGHS, "has an alias"), ("a: " + "[" * 5000, "too deeply"), ("a: !!python/name:os.system", "tag")],
)
def test_yaml_is_plain_data(tmp_path, content, message):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "read",
    [
        read_json, read_yaml, read_lines, map_array, read_dataset, lambda path: list(stream_lines(path)),
        lambda path: read_arrays(path, ["a"]), lambda path: read_bytes(path, 9),
    ],
)  # fmt: skip
def test_pipes_and_devices_are_no_files(tmp_path, read):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in ("index", "caption", "label", "label_t"):
        (tmp_path / f"{name}.mat").symlink_to(pipe)
    for path in ("/dev/zero", pipe) if read is not read_dataset else (tmp_path,):
        with pytest.raises(InputError, match="a folder, a pipe or a device"):
            read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 512), }",
        b"{'descr': '|O', 'shape': (",
        b"\xff(",
    ],
)
def test_damaged_headers_of_arrays_are_one_line(tmp_path, header):
    content = header.ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(64))
    with pytest.raises(InputError, match="not a readable array"):
        map_array(tmp_path / "a.npy")


def test_an_archive_or_objects_are_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    for name in ("a.npz", "b.npy"):
        with pytest.raises(InputError, match="not a readable array"):
            map_array(tmp_path / name)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), atomic_writer(tmp_path / "file" / "a.json"):
        pass

    assert exit_code((tmp_path / "file" / "train.log").touch) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/file/train.log: Not a directory\n"


def test_a_small_mat_file_that_says_much_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(mat, "_FLOOR", 1 << 20)
    scipy.io.savemat(tmp_path / "a.mat", {"label": np.zeros((500, 500))}, do_compression=True)
    with pytest.raises(InputError, match="2,000,000 bytes; a file of this size may hold 1,048,576"):
        read_labels(tmp_path / "a.mat", "label")
    scipy.io.savemat(tmp_path / "b.mat", {"label": scipy.sparse.coo_array((10**6, 10**6))})
    with pytest.raises(InputError, match="sparse of shape"):
        read_labels(tmp_path / "b.mat", "label")
    with h5py.File(tmp_path / "c.mat", "w") as file:  # most was never written, so it takes no room in the file
        file.create_dataset("label", (10**6, 10**6), "u1", chunks=(1000, 1000))
        file.create_dataset("index", (10, 10**9), "u2", chunks=(10, 1000))
        file["caption"] = h5py.ExternalLink("other.mat", "caption")
        file.create_group("label_t")
        file["text"] = np.full((20_000, 1), 65, np.uint16)
        file.create_dataset("cells", data=[file["text"].ref] * 1000, dtype=h5py.ref_dtype)
    with pytest.raises(InputError, match="'label' takes 1,000,000,000,000 bytes"):
        read_labels(tmp_path / "c.mat", "label")
    for key, message in {
        "index": "takes",
        "cells": "takes",
        "caption": "not an array",
        "label_t": "not an array",
    }.items():
        with pytest.raises(InputError, match=message):
            read_strings(tmp_path / "c.mat", key)
