"""Text files from anywhere: UTF-8, UTF-16 or Windows-1252, with any line ends: LF, CR LF or CR."""

import io
from collections.abc import Iterator
from pathlib import Path

from math_hash.errors import InputError


def read_text(path: str | Path) -> str:
    """Read a text file of any encoding; line ends become LF.

    UTF-16 needs its byte order mark; that of UTF-8 is optional and left out. A file that is not UTF-8 throughout is
    decoded line by line, as UTF-8 where a line is, else as Windows-1252.

    Raises:
        InputError: the file cannot be read, or is a device or a pipe.
    """
    _require_regular(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = "\n".join(_decode_line(line) for line in content.split(b"\n"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def stream_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a text file one at a time, decoded as by `read_text`, each with its LF.

    Raises:
        InputError: the file cannot be read, or is a device or a pipe.
    """
    _require_regular(path)
    try:
        with open(path, "rb") as file:
            is_utf_16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
            file.seek(0)
            # any line ends become LF here; Latin-1 keeps every byte as it is, for `_decode_line`
            lines = io.TextIOWrapper(file, "utf-16" if is_utf_16 else "latin-1", "replace")
            if is_utf_16:
                yield from lines
                return
            for number, line in enumerate(lines):
                content = line.encode("latin-1")
                yield _decode_line(content.removeprefix(b"\xef\xbb\xbf") if number == 0 else content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, decoded as by `read_text`, without line ends.

    Raises:
        InputError: the file cannot be read.
    """
    lines = read_text(path).split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _require_regular(path: str | Path) -> None:
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"{path}: is not a regular file; expected a text file")


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
