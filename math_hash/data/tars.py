"""WebDataset tars: files on this machine, whose pictures stay where they are, and streams from elsewhere."""

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from math_hash.data.picture_formats import PICTURES
from math_hash.data.records import Columns, Record, as_list
from math_hash.data.remote import expand_ranges, open_remote_tar
from math_hash.errors import InputError, one_line
from math_hash.files import open_regular
from math_hash.plain_data import parse_json

_MOST_TEXT = 1 << 24  # bytes of a text, labels or JSON


def numbered_tars(pattern: str) -> tuple[Path, list[Path]]:
    """The tar files that `shards/{000..099}.tar` stands for, and the folder before its first range.

    Raises:
        InputError: one of them is not there.
    """
    tars = []
    for tar in map(Path, expand_ranges(pattern)):
        if not tar.is_file():
            raise InputError(f"{tar}: is not there; give ranges of numbers of which every file is")
        tars.append(tar)
    return Path(pattern.partition("{")[0] + "0").parent, tars


def read_tars(tars: Iterable[Path], columns: Columns, root: Path) -> Iterator[Record]:
    """Samples of WebDataset tars: consecutive files whose names agree up to the first dot.

    The picture is the file with a picture's ending, `.txt` holds its texts, `.cls` its labels, and a `.json` has the
    keys that `columns` names. Pictures stay in the tar files, which are named relative to `root`.
    """
    for tar in tars:
        try:
            with open_regular(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                yield from _samples(str(tar), str(tar.relative_to(root)), archive, columns)
        except Exception as error:  # tarfile raises many kinds on damaged headers
            yield Record(str(tar), problem=f"cannot be read as an uncompressed tar file ({one_line(error)})")


def read_remote_tars(urls: Iterable[str], columns: Columns) -> Iterator[Record]:
    """Samples as of `read_tars`, of tar files that are read as streams; records carry the pictures' bytes.

    Raises:
        InputError: a file is not there or not accessible, or the connection breaks.
    """
    for url in urls:
        try:
            with open_remote_tar(url) as archive:
                yield from _samples(url, url, archive, columns, stays=False)
        except tarfile.TarError as error:
            yield Record(url, problem=f"cannot be read as an uncompressed tar file ({one_line(error)})")


def _samples(tar: str, name: str, archive: tarfile.TarFile, columns: Columns, stays: bool = True) -> Iterator[Record]:
    """Samples of a tar file, which pictures' names call `name`; where it `stays`, pictures are read from it later."""
    record: Record | None = None
    for member in archive:
        if not member.isreg() or member.issparse():  # links and devices, and holes that take no room here
            continue
        stem, _, ending = Path(member.name).name.partition(".")
        sample = os.path.join(os.path.dirname(member.name), stem)
        if record is None or sample != record.id:
            if record:
                yield columns.checked(record)
            record = Record(f"{tar}/{sample}", sample)
        ending = ending.lower()
        if f".{ending}" in PICTURES:
            record.image = f"{name}/{member.name}"
            if stays:
                record.member = (member.offset_data, member.size)
            elif columns.needed == "image" and (file := archive.extractfile(member)):
                record.content = file.read()
        elif ending in ("txt", "text", "cls", "json"):
            file = archive.extractfile(member)
            content = file.read(_MOST_TEXT + 1).decode(errors="replace") if file else ""
            _add_part(record, ending, content, columns)
    if record:
        yield columns.checked(record)


def _add_part(record: Record, ending: str, content: str, columns: Columns) -> None:
    if len(content) > _MOST_TEXT:
        record.problem = f"its .{ending} has more than {_MOST_TEXT:,} characters"
    elif ending == "cls":
        record.labels = as_list(content, columns.separator)
    elif ending == "json":
        try:
            other = columns.record(record.where, parse_json(content))
        except (ValueError, AttributeError) as error:
            record.problem = f"its .json is not a JSON object ({error})"
            return
        record.texts, record.labels = other.texts or record.texts, other.labels or record.labels
    else:
        record.texts = [line.strip() for line in content.splitlines() if line.strip()]
