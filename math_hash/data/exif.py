"""What a photograph's file says of it: when, where and with which camera it was taken, and its size.

EXIF comes from cameras, phones and editors, and often is damaged; what cannot be read is left out.
"""

import io
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from math_hash.data.picture_formats import readable_formats

if TYPE_CHECKING:
    from PIL import Image

_SIDEWAYS = range(5, 9)  # orientations that exchange width and height
_LONGEST = 100  # characters of a camera's name


def photo_metadata(source: str | Path | io.BytesIO) -> dict[str, Any]:
    """Size and EXIF of a picture; only its header is decoded.

    Returns:
        "width" and "height" in pixels, as a viewer shows it; and those of the following that its EXIF tells: "date",
        ISO 8601, local time, with the offset from UTC if that is known; "camera", maker and model; "latitude" and
        "longitude", degrees, positive to the north and the east.

    Raises:
        OSError: there is no such file, or it is no picture that Pillow knows.
    """
    from PIL import ExifTags, Image  # commands that open no picture do without

    with Image.open(source, formats=readable_formats()) as image:
        width, height = image.size
        if _attempt(lambda: image.getexif()[ExifTags.Base.Orientation]) in _SIDEWAYS:
            width, height = height, width
        metadata: dict[str, Any] = {"width": width, "height": height}
        if date := _attempt(lambda: _date(image.getexif())):
            metadata["date"] = date
        if camera := _attempt(lambda: _camera(image.getexif())):
            metadata["camera"] = camera
        metadata |= _attempt(lambda: _place(image.getexif().get_ifd(ExifTags.IFD.GPSInfo))) or {}
    return metadata


def _attempt(read: Callable[[], Any]) -> Any:
    """What `read` returns, or None: Pillow raises errors of many kinds on damaged EXIF."""
    try:
        return read()
    except Exception:
        return None


def _date(exif: "Image.Exif") -> str:
    from PIL import ExifTags

    details = exif.get_ifd(ExifTags.IFD.Exif)
    taken = details.get(ExifTags.Base.DateTimeOriginal) or exif[ExifTags.Base.DateTime]
    date = datetime.strptime(_text(taken), "%Y:%m:%d %H:%M:%S").isoformat()
    offset = _text(details.get(ExifTags.Base.OffsetTimeOriginal, ""))
    return date + offset if _attempt(lambda: datetime.fromisoformat(date + offset)) else date


def _camera(exif: "Image.Exif") -> str:
    from PIL import ExifTags

    make, model = (_text(exif.get(tag, "")) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    names_maker = model.lower().startswith(make.lower().split(" ")[0])
    return (model if names_maker else f"{make} {model}".strip())[:_LONGEST]


def _place(gps: dict[int, Any]) -> dict[str, float]:
    from PIL import ExifTags

    latitude = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S", 90)
    longitude = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W", 180)
    return {"latitude": latitude, "longitude": longitude}


def _degrees(value: tuple[Any, Any, Any], reference: Any, negative: str, most: int) -> float:
    degrees, minutes, seconds = map(float, value)
    size = degrees + minutes / 60 + seconds / 3600
    if not (math.isfinite(size) and 0 <= size <= most):
        raise ValueError(f"{size} degrees")
    return round(-size if _text(reference).upper() == negative else size, 6)


def _text(value: Any) -> str:
    """Text of an EXIF field, without the null characters and control characters that pad it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "".join(letter for letter in text if letter.isprintable()).strip()
