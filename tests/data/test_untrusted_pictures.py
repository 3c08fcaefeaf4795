"""Pictures from outside: what is opened, what is not, and how much memory it takes."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from math_hash import InputError
from math_hash.data import images, inspect_images, open_image
from math_hash.data.collection import read_collection
from math_hash.data.exif import photo_metadata
from math_hash.data.images import TarMember, TooManyPixels
from math_hash.data.records import Columns
from math_hash.retrieval.thumbnail import thumbnail


def noise(width=40, height=30):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def encoded(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or noise()).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm", "avif", "heif"])
def test_the_formats_that_people_have_are_opened(tmp_path, kind):
    if kind == "heif":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if f".{kind}" not in Image.registered_extensions():
        pytest.skip(f"Pillow has no {kind} here")
    (tmp_path / "a.jpg").write_bytes(encoded(kind))  # whatever its ending
    assert open_image(tmp_path / "a.jpg").size == (40, 30)


def test_a_postscript_file_named_as_a_picture_starts_no_program(tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript, which runs it."""
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    monkeypatch.setattr(subprocess, "check_call", lambda *arguments, **_: started.append(arguments))
    (tmp_path / "a.jpg").write_bytes(encoded("eps"))
    with pytest.raises(InputError, match="of no format that is read"):
        open_image(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="cannot identify"):
        photo_metadata(tmp_path / "a.jpg")
    assert not started


@pytest.mark.parametrize("kind", [ValueError, TypeError, struct.error, MemoryError, RuntimeError, AssertionError])
def test_whatever_a_decoder_raises_is_one_unusable_picture(tmp_path, monkeypatch, kind):
    def fail(*_):
        raise kind("of the decoder")

    (tmp_path / "a.png").write_bytes(encoded("png"))
    monkeypatch.setattr(images, "_as_rgb", fail)
    with pytest.raises(InputError, match="cannot be decoded"):
        open_image(tmp_path / "a.png")
    assert "cannot be decoded" in inspect_images([tmp_path / "a.png"]).bad[0]
    assert thumbnail(tmp_path, {"image": "a.png"}, 64) is None


def test_pipes_devices_and_folders_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    names = [tmp_path / f"{name}.jpg" for name in ("pipe", "folder", "device")]
    for name in names:
        with pytest.raises(InputError, match="a folder, a pipe or a device"):
            open_image(name)
    assert len(inspect_images(names).bad) == len(inspect_images(names, decode=False).bad) == 3


def test_too_many_pixels_and_extreme_shapes_are_refused_before_decoding(tmp_path, monkeypatch):
    size = (10_000).to_bytes(4, "big") * 2
    bomb = bytearray(encoded("png"))  # whose header says 10,000 x 10,000
    bomb[16:24] = size
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    long, small = encoded("png", Image.new("L", (60_000, 1))), encoded("png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("was decoded"))
    with pytest.raises(InputError, match="60000 x 1 pixels, and at most 200 times as long as wide is taken"):
        open_image(io.BytesIO(long))
    with pytest.raises(TooManyPixels, match="1,200 pixels; at most 1,000 are taken"):
        open_image(io.BytesIO(small), max_pixels=1000)
    with pytest.raises(TooManyPixels, match="100,000,000 pixels"):
        open_image(io.BytesIO(bytes(bomb)))


def test_a_place_in_a_tar_file_that_is_larger_than_the_file_takes_no_more_memory(tmp_path):
    (tmp_path / "a.tar").write_bytes(encoded("png"))
    assert open_image(TarMember(tmp_path / "a.tar", "a.png", 0, 1 << 60)).size == (40, 30)
    with pytest.raises(InputError, match="cannot be decoded"):
        open_image(TarMember(tmp_path / "a.tar", "a.png", 1 << 70, 10))


MEASURE = """
import sys
from pathlib import Path
from math_hash.data import open_image

def most_resident():  # of this program; getrusage counts what the process was before it
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

before = most_resident()
open_image(sys.argv[1])
print(most_resident() - before)
"""


def peak_memory(path):
    """Bytes that opening a picture takes at most, in a new process: this one has memory left from other tests."""
    return int(subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_a_large_picture_takes_16_bytes_per_pixel_at_most(tmp_path, mode):
    Image.new(mode, (7000, 7000), 40_000).save(tmp_path / "a.tif")
    assert 4 * 7000**2 < peak_memory(tmp_path / "a.tif") < 16 * 7000**2


@pytest.mark.parametrize(
    ("greys", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 127, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[-5, np.nan, 1]], np.float32), [0, 0, 255]),
        (np.array([[0, 2048, 4095]], np.uint16), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0, 3, 255]], np.uint16), [0, 3, 255]),
    ],
)
def test_greys_of_other_types_are_scaled_by_their_range(tmp_path, greys, expected):
    Image.fromarray(greys).save(tmp_path / "a.tif")
    assert np.asarray(open_image(tmp_path / "a.tif"))[0, :, 0].tolist() == expected


def test_a_jpeg_is_decoded_smaller_for_a_thumbnail_alone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg", noise(640, 480)))
    assert open_image(tmp_path / "a.jpg").size == (640, 480)
    assert open_image(tmp_path / "a.jpg", side=100).size == (160, 120)


def test_names_that_are_not_utf_8_are_left_out_with_a_reason(tmp_path):
    (tmp_path / "good.png").write_bytes(encoded("png"))
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded("png"))
    _, records = read_collection(tmp_path, Columns())
    problems = {record.image: record.problem for record in records}
    assert problems.pop("good.png") == ""
    assert "not UTF-8" in next(iter(problems.values()))
