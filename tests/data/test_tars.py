"""Tar files from outside: what is read of them, and how much."""

import io
import tarfile

import pytest

from math_hash.data import tars
from math_hash.data.collection import read_collection
from math_hash.data.records import Columns


def read(path):
    return list(read_collection(path, Columns(needed="text"))[1])


def write(path, **members):
    """A tar file with these texts, or members of another type, name.ending -> content."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content.encode(), "/etc/passwd"
                archive.addfile(member)


def test_links_and_devices_are_ignored(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    write(tmp_path / "a.tar", a_txt=b"a dog", **{f"{place}_txt": kind.decode() for place, kind in enumerate(kinds)})
    assert [record.texts for record in read(tmp_path / "a.tar")] == [["a dog"]]


def test_a_file_of_holes_is_ignored(tmp_path):
    member = tarfile.TarInfo("hole.txt")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (1 << 50).to_bytes(11, "big")  # its size with the holes: a petabyte
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert read(tmp_path / "a.tar") == []


def test_a_part_that_is_too_long_or_too_deep_is_a_problem_of_its_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "_MOST_TEXT", 10_000)
    write(tmp_path / "a.tar", a_txt=b"x" * 20_000, b_json=b"[" * 9000, c_txt=b"a dog")
    long, deep, good = (record.problem for record in read(tmp_path / "a.tar"))
    assert long == "its .txt has more than 10,000 characters"
    assert deep == "its .json is not a JSON object (nested too deeply)"
    assert good == ""


def odd_headers():
    """A header of the newer form whose list of holes holds no numbers: `tarfile` raises a ValueError."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.txt")
        member.pax_headers = {"GNU.sparse.map": "x,y", "GNU.sparse.size": "5"}
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage", [b"", odd_headers(), b"\0" * 100, b"\xff" * 600, b"x" * 124 + b"99999999999\0" + b"y" * 400]
)
def test_a_damaged_archive_is_a_record_with_a_problem(tmp_path, damage):
    (tmp_path / "a.tar").write_bytes(damage)
    assert all("cannot be read as an uncompressed tar file" in record.problem for record in read(tmp_path / "a.tar"))
