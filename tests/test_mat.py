import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.io

from math_hash import InputError, mat
from math_hash.mat import read_arrays, read_labels, read_strings, write_mat

TEXTS = ["im1.jpg", "a longer caption", "", "été 日本"]


def cells(texts, shape):
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_cell_arrays_of_either_orientation(tmp_path, shape):
    scipy.io.savemat(tmp_path / "a.mat", {"caption": cells(TEXTS, shape)})
    assert read_strings(tmp_path / "a.mat", "caption") == TEXTS


def test_nested_cells(tmp_path):
    inner = [cells([text], (1, 1)) for text in TEXTS]
    outer = np.empty((len(inner), 1), object)
    for row, cell in enumerate(inner):
        outer[row, 0] = cell
    scipy.io.savemat(tmp_path / "a.mat", {"caption": outer})
    assert read_strings(tmp_path / "a.mat", "caption") == TEXTS


def test_char_array_padded_with_blanks(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"index": np.array(TEXTS)})
    assert read_strings(tmp_path / "a.mat", "index") == TEXTS


@pytest.mark.parametrize("texts", [TEXTS, [""], ["", ""], ["one"], ["a", "b"], ["🎈 up", "é" * 70, *TEXTS * 9]])
@pytest.mark.parametrize("limit", [2**31, 0])
@pytest.mark.parametrize("block", [64, 1 << 22])
def test_what_is_written_is_read(tmp_path, monkeypatch, texts, limit, block):
    """In v5 and, if an array is too large for it, in v7.3; whole or in many blocks."""
    monkeypatch.setattr(mat, "_V5_LIMIT", limit)
    monkeypatch.setattr(mat, "_BLOCK", block)
    labels = np.eye(len(texts), 3, dtype=np.uint8)
    write_mat(tmp_path / "a.mat", {"caption": texts, "label": labels, "index": texts[::-1]})
    assert read_strings(tmp_path / "a.mat", "caption") == texts
    assert read_strings(tmp_path / "a.mat", "index") == texts[::-1]
    assert (read_labels(tmp_path / "a.mat", "label") == labels).all()
    assert h5py.is_hdf5(tmp_path / "a.mat") == (limit == 0)
    if limit:  # SciPy alone, as the releases read it
        read = scipy.io.loadmat(tmp_path / "a.mat")["caption"]
        assert [str(text).rstrip() for text in read] == texts
    else:
        with h5py.File(tmp_path / "a.mat") as file:
            assert (file["caption"].attrs["MATLAB_class"], file["label"].attrs["MATLAB_class"]) == (b"char", b"uint8")


def matlab_v73(path, key, texts=None, matrix=None, as_cells=True):
    """Write HDF5 as MATLAB does: a 512-byte header, transposed arrays, UTF-16 units, references for cells."""
    with h5py.File(path, "w", userblock_size=512) as file:
        if matrix is not None:
            file.create_dataset(key, data=matrix.T)
        elif as_cells:
            references = file.create_group("#refs#")
            cell = file.create_dataset(key, (1, len(texts)), h5py.ref_dtype)
            for place, text in enumerate(texts):
                units = np.frombuffer(text.encode("utf-16-le"), np.uint16)
                value = references.create_dataset(str(place), data=units[:, None] if text else np.zeros(2, np.uint64))
                if not text:
                    value.attrs["MATLAB_empty"] = np.uint8(1)
                cell[0, place] = value.ref
        else:
            width = max(map(len, texts))
            units = [np.frombuffer(text.ljust(width).encode("utf-16-le"), np.uint16) for text in texts]
            file.create_dataset(key, data=np.stack(units).T)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("as_cells", [True, False])
def test_v73_strings(tmp_path, as_cells):
    matlab_v73(tmp_path / "a.mat", "caption", TEXTS, as_cells=as_cells)
    assert read_strings(tmp_path / "a.mat", "caption") == TEXTS


def test_v73_labels(tmp_path):
    labels = np.array([[0, 1, 1], [1, 0, 0]], float)
    matlab_v73(tmp_path / "a.mat", "label", matrix=labels)
    assert read_labels(tmp_path / "a.mat", "label").tolist() == labels.tolist()


def test_what_is_not_asked_for_is_not_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"label": np.eye(3), "other": np.zeros((1000, 2000))}, do_compression=True)
    tracemalloc.start()
    read_labels(tmp_path / "a.mat", "label")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # `other` takes 16 MB


def test_sparse_labels(tmp_path):
    labels = np.eye(3)
    scipy.io.savemat(tmp_path / "a.mat", {"label": scipy.sparse.csc_matrix(labels)})
    assert read_labels(tmp_path / "a.mat", "label").tolist() == labels.tolist()


@pytest.mark.parametrize("limit", [2**31, 0])
def test_arrays_keep_their_values_and_types(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(mat, "_V5_LIMIT", limit)
    rng = np.random.default_rng(0)
    arrays = {
        "codes": np.where(rng.random((5, 3)) < 0.5, -1, 1).astype(np.float32),
        "labels": rng.integers(0, 2, (4, 7), dtype=np.uint8),
        "numbers": rng.normal(size=(1, 6)),
    }
    write_mat(tmp_path / "a.mat", {**arrays, "index": ["a.jpg"]})
    content = read_arrays(tmp_path / "a.mat", ["labels", "absent", "codes", "numbers"])
    assert set(content) == set(arrays)  # a key that is not in the file is left out
    for key, array in arrays.items():
        assert content[key].dtype == array.dtype
        assert np.array_equal(content[key], array)
    assert read_arrays(tmp_path / "a.mat", ["absent"]) == {}


def test_sparse_and_empty_arrays_and_structs(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"r_l": scipy.sparse.csc_matrix(np.eye(3)), "q_l": np.zeros((0, 4))})
    content = read_arrays(tmp_path / "a.mat", ["q_l", "r_l"])
    assert content["r_l"].tolist() == np.eye(3).tolist()
    assert content["q_l"].shape == (0, 4)
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file.create_dataset("q_l", data=np.array([0, 4], np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
        file.create_group("r_l")
    assert read_arrays(tmp_path / "b.mat", ["q_l"])["q_l"].shape == (0, 4)
    with pytest.raises(InputError, match=r"b\.mat: key 'r_l' is not an array of numbers"):
        read_arrays(tmp_path / "b.mat", ["r_l"])


def test_labels_other_than_0_and_1_are_named_with_their_position(tmp_path):
    write_mat(tmp_path / "a.mat", {"label": np.array([[0, 1], [2, 0]])})
    with pytest.raises(InputError, match=r"row 1, column 0: 2 is not a label"):
        read_labels(tmp_path / "a.mat", "label")


def test_the_error_for_a_missing_key_lists_the_existing_ones(tmp_path):
    write_mat(tmp_path / "a.mat", {"category": np.eye(2)})
    with pytest.raises(InputError, match="no key 'label'; it holds category"):
        read_labels(tmp_path / "a.mat", "label")


def test_reading_numbers_as_strings_is_an_error(tmp_path):
    write_mat(tmp_path / "a.mat", {"index": np.eye(2)})
    with pytest.raises(InputError, match="does not hold strings"):
        read_strings(tmp_path / "a.mat", "index")


def test_missing_and_truncated_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "a.mat", "label")
    write_mat(tmp_path / "a.mat", {"label": np.random.default_rng(0).integers(0, 2, (50, 50))})
    content = (tmp_path / "a.mat").read_bytes()
    for length in (0, 10, 200, len(content) - 5):
        (tmp_path / "b.mat").write_bytes(content[:length])
        with pytest.raises(InputError, match="not a readable"):
            read_labels(tmp_path / "b.mat", "label")


@pytest.mark.parametrize("packed", [False, True])
def test_variables_are_listed_as_scipy_lists_them(tmp_path, packed):
    numbers = {f"{kind}s": np.arange(6, dtype=kind).reshape(2, 3) for kind in ("u1", "i2", "i8", "f4", "f8", "c16")}
    others = {"bits": np.eye(3, dtype=bool), "texts": np.array(TEXTS), "cells": cells(TEXTS, (1, -1))}
    nested = {"struct": {"a": 1, "b": "c"}, "sparse": scipy.sparse.eye_array(4, 7).tocsc(), "empty": np.zeros((0, 5))}
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, numbers | others | nested | {"deep": np.zeros((2, 3, 4))}, do_compression=packed)
    with path.open("rb") as file:
        listed = mat.variables_of_v5(file)
    whole = scipy.io.whosmat(path, chars_as_strings=False)
    assert listed == {name: (list(shape), kind) for name, shape, kind in whole}
    assert len(listed) == 13
