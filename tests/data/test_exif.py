"""What is read of a photograph's EXIF, also from damaged files and in formats of phones."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from math_hash.data import open_image
from math_hash.data.exif import photo_metadata

EIFFEL = {"latitude": 48.85837, "longitude": 2.294481}  # 48 deg 51' 30.132", 2 deg 17' 40.1316"


def exif_of():
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "NIKON CORPORATION\0", "NIKON D80  "
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.DateTime] = "2010:01:01 00:00:00"
    details = {ExifTags.Base.DateTimeOriginal: "2008:05:30 15:56:01", ExifTags.Base.OffsetTimeOriginal: "+02:00"}
    exif.get_ifd(ExifTags.IFD.Exif).update(details)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 30.132), 3: "E", 4: (2.0, 17.0, 40.1316)})
    return exif


def saved(kind="jpeg", exif=None, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **({"exif": exif} if exif else {}))
    return buffer


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
def test_date_camera_place_and_upright_size(kind):
    metadata = photo_metadata(saved(kind, exif_of().tobytes()))
    assert {name: metadata.pop(name) for name in EIFFEL} == pytest.approx(EIFFEL, abs=1e-5)
    size = (metadata.pop("width"), metadata.pop("height"))
    assert size == (30, 40) == open_image(saved(kind, exif_of().tobytes())).size
    assert metadata == {"date": "2008-05-30T15:56:01+02:00", "camera": "NIKON D80"}


def test_heic_is_read_with_its_extra():
    pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
    exif = exif_of()
    exif[ExifTags.Base.Orientation] = 1
    content = saved("heif", exif.tobytes(), (64, 48))
    assert open_image(content).size == (64, 48)
    assert photo_metadata(content)["camera"] == "NIKON D80"


def test_without_exif_there_is_the_size_alone():
    assert photo_metadata(saved()) == {"width": 40, "height": 30}


@pytest.mark.parametrize(
    ("tag", "value"), [("date", "0000:00:00 00:00:00"), ("date", "yesterday"), ("date", ""), ("offset", "two hours")]
)
def test_values_that_mean_nothing_are_left_out(tag, value):
    exif = exif_of()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal if tag == "date" else ExifTags.Base.OffsetTimeOriginal] = value
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (148.0, 0.0, 0.0)
    metadata = photo_metadata(saved(exif=exif.tobytes()))
    expected = {"offset": "2008-05-30T15:56:01", "date": "2010-01-01T00:00:00+02:00" if value == "" else None}[tag]
    assert metadata.get("date") == expected
    assert "latitude" not in metadata
    assert metadata["camera"] == "NIKON D80"


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_never_raises_and_keeps_the_size():
    rng = np.random.default_rng(0)
    whole = exif_of().tobytes()
    kept = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for place in rng.integers(6, len(whole), rng.integers(1, 9)):
            damaged[place] = rng.integers(256)
        metadata = photo_metadata(saved(exif=bytes(damaged)[: rng.integers(20, len(whole) + 1)]))
        assert {metadata["width"], metadata["height"]} == {40, 30}
        assert metadata.keys() <= {"width", "height", "date", "camera", *EIFFEL}
        kept += "camera" in metadata
    assert 0 < kept < 400
