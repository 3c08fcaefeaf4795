"""Collections named by a pattern or a URL: numbered tar files, and tar files in an object store, read as streams."""

import itertools
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from math_hash.errors import InputError, import_extra, one_line

# what may be read, and the package that reads it; others of fsspec run commands or lead elsewhere
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp", "http": "aiohttp"}
_BLOCK = 1 << 23  # bytes per request
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_remote(source: str | Path) -> bool:
    """Whether the source is a URL. A path that `Path` has normalized is none.

    Raises:
        InputError: its protocol is not one of those that are read.

    >>> is_remote("s3://bucket/shards/{000..009}.tar"), is_remote("shards/000.tar")
    (True, False)
    """
    if not isinstance(source, str) or not ("://" in source or source.startswith("pipe:")):
        return False
    protocol = source.partition(":")[0]
    if protocol == "pipe":
        raise InputError(f"{source}: pipe: runs commands and is refused; name the files by path or URL")
    if protocol not in _PACKAGES or "::" in source:
        raise InputError(
            f"{source}: URLs of this form are not read; expected {', '.join(f'{p}://' for p in _PACKAGES)}"
        )
    return True


def expand_ranges(pattern: str) -> Iterator[str]:
    """The names that a pattern with ranges of numbers stands for, as WebDataset writes it.

    >>> list(expand_ranges("a/{08..10}.tar"))
    ['a/08.tar', 'a/09.tar', 'a/10.tar']
    """
    literal = _RANGE.split(pattern)[::3]
    for numbers in itertools.product(*map(_numbers, _RANGE.finditer(pattern))):
        yield literal[0] + "".join(number + text for number, text in zip(numbers, literal[1:], strict=True))


def _numbers(found: re.Match[str]) -> list[str]:
    first, last = found.groups()
    width = max(map(len, found.groups())) if "0" in (first[0], last[0]) else 0
    numbers = [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
    if not numbers:
        raise InputError(f"{found.string}: the range {found[0]} is empty; the smaller number stands first")
    return numbers


def remote_tars(url: str) -> Iterator[str]:
    """The URLs of tar files: the given ones, or all those of a folder, sorted.

    Raises:
        InputError: the folder cannot be listed, or holds no tar file.
    """
    if url.lower().endswith(".tar"):
        yield from expand_ranges(url)
        return
    with _one_line_errors(url):
        files, path = _file_system(url)
        names = sorted(name for name in files.ls(path, detail=False) if name.lower().endswith(".tar"))
    if not names:
        raise InputError(f"{url}: holds no .tar file; expected a .tar file or a folder of them")
    yield from (files.unstrip_protocol(name) for name in names)


@contextmanager
def open_remote_tar(url: str) -> Iterator[tarfile.TarFile]:
    """Open an uncompressed tar file as a stream: each member has to be read before the next one.

    Raises:
        InputError: it is not there or not accessible, the connection breaks, or a package is missing.
        tarfile.TarError: it is damaged.
    """
    with _one_line_errors(url):
        files, path = _file_system(url)
        with files.open(path, "rb", block_size=_BLOCK) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            yield archive


def _file_system(url: str) -> tuple[Any, str]:
    import_extra(_PACKAGES[url.partition(":")[0]], "remote", url)
    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()  # of an earlier listing
    return files, path


@contextmanager
def _one_line_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (InputError, tarfile.TarError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url}: is not there, or access is denied; check name and credentials") from error
    except Exception as error:  # each protocol's package raises kinds of its own
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{url}: cannot be read ({reason}); check access and try again") from error
