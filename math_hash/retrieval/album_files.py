"""The pictures of an album's folder: which files they are, what they contain, and what became of them."""

import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from math_hash.data.picture_formats import PICTURES, missing_reader
from math_hash.errors import InputError
from math_hash.files import sha256, write_text
from math_hash.retrieval.ids import is_text

CONFIG, LOCK = "album.json", "lock.sqlite"  # in an album's folder
Skipped = tuple[str, str]  # path below the folder, reason
_ID_DIGITS = 32  # of the sum: 128 bits
_SETTLED = 2_000_000_000  # nanoseconds in which a file may change without a new time, on coarse file systems


@dataclass(frozen=True)
class PictureFile:
    """A picture's file at some time.

    Attributes:
        path: below the album's folder of photographs, with "/".
        size: in bytes.
        mtime_ns: time of its last change.
        sum: SHA-256 of its content, in hexadecimal digits; "" if it was not read.
    """

    path: str
    size: int
    mtime_ns: int
    sum: str = ""

    @property
    def id(self) -> str:
        """Id of its content in the index."""
        return self.sum[:_ID_DIGITS]


@dataclass(frozen=True)
class Changes:
    """What a sync did, by paths below the folder of photographs.

    Attributes:
        added, changed, deleted: files.
        moved: old and new path of each file that kept its content.
        skipped: files that are no pictures or cannot be read, with reasons.
        pictures: number of files in the album now.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    pictures: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.moved or self.deleted)

    @classmethod
    def between(cls, before: Mapping[str, str], after: Mapping[str, str], skipped: list[Skipped]) -> "Changes":
        """What happened between two states, each a mapping from paths to ids.

        >>> Changes.between({"a": "1", "b": "2", "c": "3"}, {"a": "4", "d": "2", "e": "5"}, [])
        Changes(added=['e'], changed=['a'], moved=[('b', 'd')], deleted=['c'], skipped=[], pictures=3)
        """
        changes = cls(
            changed=[path for path, row_id in after.items() if before.get(path, row_id) != row_id],
            skipped=skipped,
            pictures=len(after),
        )
        gone: dict[str, list[str]] = defaultdict(list)
        for path in sorted(before.keys() - after.keys()):
            gone[before[path]].append(path)
        for path in sorted(after.keys() - before.keys()):
            if gone[after[path]]:
                changes.moved.append((gone[after[path]].pop(0), path))
            else:
                changes.added.append(path)
        changes.deleted.extend(sorted(path for paths in gone.values() for path in paths))
        return changes


def list_pictures(folder: Path, without: Path) -> tuple[list[PictureFile], list[Skipped]]:
    """The pictures in a folder and below it, and what is skipped, by path; hidden ones and albums are left out.

    Args:
        folder: an absolute path.
        without: a folder that is left out, an absolute path.

    Raises:
        InputError: there is no such folder, or it or one below it cannot be listed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of photographs")
    files: list[PictureFile] = []
    skipped: list[Skipped] = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        below = [Path(place, name) for name in folders if not name.startswith(".")]
        skipped.extend((_shown(path, folder), "is a symbolic link") for path in below if path.is_symlink())
        folders[:] = [path.name for path in below if path != without and not _is_album(path)]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if reason := _why_skipped(path):
                skipped.append((_shown(path, folder), reason))
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # deleted just now
                continue
            name = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe may never end
                skipped.append((name, "is no file"))
                continue
            files.append(PictureFile(name, status.st_size, status.st_mtime_ns))
    return sorted(files, key=lambda file: file.path), skipped


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # deleted just now
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); its pictures would seem deleted")


def _is_album(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (CONFIG, LOCK))


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()


def _why_skipped(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in PICTURES:
        return f"is no picture ({ending or 'no ending'})"
    if path.is_symlink():
        return "is a symbolic link"
    return missing_reader(ending) or ("" if is_text(str(path)) else "its name is no valid UTF-8")


def with_sums(
    folder: Path, files: Sequence[PictureFile], known: Mapping[str, PictureFile], progress: bool = False
) -> tuple[list[PictureFile], list[Skipped]]:
    """The same files with their sums, and those that cannot be read; such as were deleted meanwhile are left out.

    Args:
        known: files with sums, by path; where size and time are the same, the sum is taken from there.
        progress: show a progress bar.
    """

    def summed(file: PictureFile) -> PictureFile | Skipped | None:
        before = known.get(file.path)
        if before and (before.size, before.mtime_ns) == (file.size, file.mtime_ns):
            return before
        try:
            return PictureFile(file.path, file.size, file.mtime_ns, sha256(folder / file.path))
        except FileNotFoundError:
            return None
        except OSError as error:
            return file.path, f"cannot be read ({error.strerror})"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = pool.map(summed, files)
        results = list(tqdm(sums, total=len(files), desc="looking at files", unit="file", disable=not progress))
    read = [result for result in results if isinstance(result, PictureFile)]
    return read, [result for result in results if isinstance(result, tuple)]


def write_manifest(path: Path, files: Iterable[PictureFile], started_ns: int) -> None:
    """Write files with sums and ids as JSON lines, atomically.

    Args:
        started_ns: time before their sums were taken; the times of files that changed just before are left out, so
            that these files are read again.

    Raises:
        InputError: the file cannot be written.
    """
    lines = (
        json.dumps({**asdict(file), "id": file.id, "mtime_ns": file.mtime_ns if is_settled(file, started_ns) else 0})
        for file in files
    )
    write_text(path, "".join(line + "\n" for line in lines))


def is_settled(file: PictureFile, started_ns: int) -> bool:
    """Whether a change after `started_ns` would show in the file's time."""
    return file.mtime_ns < started_ns - _SETTLED


def read_manifest(path: Path) -> dict[str, PictureFile]:
    """The files of a manifest by path; none if it is missing or damaged, since it only saves reading files again."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["path"]: PictureFile(row["path"], row["size"], row["mtime_ns"], row["sum"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
