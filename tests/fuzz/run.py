"""Read damaged files, and tell which ones end in anything but a result or one line.

  python tests/fuzz/run.py --cases 10000 --format pictures

A case is a number: `--first 4711 --cases 1` repeats one. The files are read in a child process, whose memory and whose
time for each case are limited; a child that dies, hangs or grows beyond its limit is a failure of that case.
"""

import argparse
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.formats import FORMATS, Format
from fuzz.mutations import mutated

from math_hash.errors import InputError, one_line

MEMORY = 2 << 30  # bytes beyond those of the process that has everything imported
SECONDS = 20  # of a case, on a busy machine


def case(valid: Mapping[str, bytes], number: int) -> tuple[str, bytes]:
    """The name and the content of a damaged file."""
    names = sorted(valid)
    name = names[number % len(names)]
    return name, mutated(valid[name], number)


def failures(format: Format, first: int, stop: int, memory: int = MEMORY, seconds: float = SECONDS) -> dict[int, str]:
    """Read the damaged files with the numbers first ... stop - 1 in child processes; a new one follows each that died.

    Returns:
        Number of a case -> what it ended in.
    """
    valid = format.valid()
    failed: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        while first < stop:
            reader, child = _started(partial(_read_cases, format, valid, Path(folder), range(first, stop)), memory)
            first = _followed(reader, child, first, seconds, failed)
    return failed


def _started(work: Callable[[Callable[[str], None]], None], memory: int) -> tuple[int, int]:
    """Start a child that does the work; its reports are lines that can be read here."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        return reader, child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        work(lambda line: os.write(writer, f"{line}\n".encode(errors="replace")))
    finally:
        os._exit(0)


def _read_cases(
    format: Format, valid: Mapping[str, bytes], folder: Path, numbers: range, report: Callable[[str], None]
) -> None:
    """Report each case that fails, with the reason, and the number of each that is done."""
    for number in numbers:
        name, content = case(valid, number)
        (folder / name).write_bytes(content)
        try:
            format.read(folder / name)
        except InputError as error:
            if "\n" in str(error):
                report(f"{number} {name}: a message of several lines")
        except BaseException as error:
            file, line = traceback.extract_tb(error.__traceback__)[-1][:2]
            report(f"{number} {name}: {type(error).__name__} {one_line(error)[:80]} in {file}:{line}")
        report(f"{number}")


def _followed(reader: int, child: int, at: int, seconds: float, failed: dict[int, str]) -> int:
    """Read a child's reports until it ends; returns the number of the case that comes next."""
    rest, is_in_time = b"", True
    while is_in_time and (block := os.read(reader, 1 << 16) if (is_in_time := _answers(reader, seconds)) else b""):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number, _, reason = line.decode(errors="replace").partition(" ")
            at = int(number) + 1
            if reason:
                failed[int(number)] = reason
    os.close(reader)
    if not is_in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status:
        failed[at] = f"died of signal {status & 127}" if is_in_time else f"took more than {seconds:g} seconds"
        at += 1
    return at


def _answers(reader: int, seconds: float) -> bool:
    return bool(select.select([reader], [], [], seconds)[0])


def main() -> int:
    """Run the cases of one format, or of all; exit code 1 where any fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=[*FORMATS, "all"], default="all")
    parser.add_argument("--cases", type=int, default=1000, help="of each format (1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    flags = parser.parse_args()
    any_failed = False
    for name in FORMATS if flags.format == "all" else [flags.format]:
        start = time.perf_counter()
        failed = failures(FORMATS[name], flags.first, flags.first + flags.cases)
        print(f"{name}: {len(failed)} of {flags.cases} cases failed, {time.perf_counter() - start:.0f} s", flush=True)
        for number, message in failed.items():
            print(f"  {number} {message}")
        any_failed = any_failed or bool(failed)
    return int(any_failed)


if __name__ == "__main__":
    sys.exit(main())
