"""Weight files from outside: damaged ones are one line, and small ones take little memory."""

import io
import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from math_hash import InputError
from math_hash.encoders.state_dict import read_state_dict
from math_hash.models.training_distribution import FILE, read_distributions


def archive(data, **parts):
    """A TorchScript archive with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {"constants.pkl": b"", "data.pkl": data, **parts}.items():
            file.writestr(f"model/{name}", content)
    return buffer.getvalue()


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def header(**tensors):
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def modules_that_hold_two_others(depth):
    """Few bytes that stand for 2 ** depth modules."""
    module = b"c__torch__\nModule\n)\x81"
    return b"\x80\x02" + module + b"}" + b"".join(
        b"b" + b"q" + bytes([place]) + b"0" + module + b"}(X\x01\x00\x00\x00ah" + bytes([place])
        + b"X\x01\x00\x00\x00bh" + bytes([place]) + b"u" for place in range(depth)
    ) + b"b."  # fmt: skip


DAMAGED = {
    "a header of 2^60 bytes.safetensors": struct.pack("<Q", 1 << 60) + bytes(100),
    "offsets outside.safetensors": header(a={"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}),
    "unknown type.safetensors": header(a={"dtype": "F99", "shape": [0], "data_offsets": [0, 0]}),
    "cut archive.pt": saved({"a": torch.ones(1000)})[:-300],
    "memo of 2^31 places.pt": archive(b"\x80\x02Nr\xff\xff\xff\x7f0N."),
    "no module.pt": archive(pickle.dumps([1, 2], 2)),
    "many modules.pt": archive(modules_that_hold_two_others(40)),
    "bomb.pt": archive(pickle.dumps({}, 2), zeros=bytes(1 << 26)),
    "one number as many.pt": saved({"a": torch.zeros(1).expand(1 << 40)}),
    "sparse.pt": saved({"a": torch.zeros(3, 3).to_sparse()}),
    "on no device.pt": saved({"a": torch.zeros(3, device="meta")}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_weights_are_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(InputError) as refusal:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_bfloat16_is_read_everywhere(tmp_path):
    state = {"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert read_state_dict(tmp_path / name)["a"].tolist() == [1.5, -2.0]
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2).bfloat16()), tmp_path / "scripted.pt")
    assert read_state_dict(tmp_path / "scripted.pt")["weight"].dtype == torch.bfloat16
    parts = {"image.mean": torch.zeros(2), "image.precision": torch.eye(2), "image.limit": torch.tensor(3.0)}
    save_file({name: value.bfloat16() for name, value in parts.items()}, tmp_path / FILE)
    assert read_distributions(tmp_path)["image"].limit == 3.0
