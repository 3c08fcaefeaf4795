"""Let each call fail in turn that writes to the disk, and look for what is lost (in the manner of SQLite's tests).

  python tests/fault_injection/run.py --all
  python tests/fault_injection/run.py --points 40 --seed 1

A library loaded before the C library counts write, pwrite, fwrite, fsync, fdatasync, ftruncate, open for writing,
mkdir, rename, renameat2 and unlink below a folder. At the n-th call the disk is full from then on, or there is one
input/output error, or the process ends after half a write. Then all that was acknowledged has to be there, the next run
has to succeed, and nothing may be left behind.
"""

import argparse
import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

FAILURES = {"full": (errno.ENOSPC, 1), "error": (errno.EIO, 0), "kill": (0, 0)}
_DONE, _REFUSED, _KILLED, _WRONG = 0, 2, 99, 98


def preload(arguments: list[str]) -> int:
    """Compile the library and run this file again with it; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "shim.so"
        source = Path(__file__).with_name("shim.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        environment = {**os.environ, **threads, "LD_PRELOAD": str(library)}
        return subprocess.run([sys.executable, __file__, *arguments], env=environment).returncode


def in_child(task, *arguments) -> tuple[int, list[str], list[str]]:
    """Run a task in a forked process; returns its exit code, the lines that it acknowledged, and its error message."""
    reading, writing = os.pipe()
    telling, saying = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        code = _WRONG
        try:
            from math_hash.errors import InputError

            try:
                task(*arguments, lambda line: os.write(writing, f"{line}\n".encode()))
                code = _DONE
            except InputError as error:
                os.write(saying, f"{error}\n".encode())
                code = _REFUSED
        except BaseException:
            os.write(saying, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(code)
    os.close(writing)
    os.close(saying)
    with open(reading, "rb") as acknowledgements, open(telling, "rb") as message:
        acknowledged, said = (lines.read().decode().splitlines() for lines in (acknowledgements, message))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), acknowledged, said


def armed(workload, folder: Path, n: int, failure: str, acknowledge) -> None:
    """Act with a failure at call n; 0 counts the calls and acknowledges their number."""
    library = ctypes.CDLL(None)
    number, lasting = FAILURES[failure]
    library.fault_arm(os.fsencode(folder), ctypes.c_long(n), number, lasting)
    workload.act(folder, acknowledge if n else lambda _: None)
    if not n:
        acknowledge(str(library.fault_count()))


def after(workload, folder: Path, acknowledged: list[str], acknowledge) -> None:
    """Verify what is there, run again, and verify everything."""
    workload.verify(folder, set(acknowledged))
    workload.again(folder)
    workload.verify(folder, set(workload.everything))
    workload.tidy(folder)


def points_of(workload, prepared: Path) -> list[tuple[int, str]]:
    """Every call of a workload, with every failure."""
    work = prepared.with_name("count")
    shutil.copytree(prepared, work)
    code, counted, said = in_child(armed, workload, work, 0, "kill")
    assert code == _DONE, said
    return [(n, failure) for failure in FAILURES for n in range(1, int(counted[0]) + 1)]


def try_point(workload, prepared: Path, n: int, failure: str) -> str:
    """What went wrong at a point; "" for nothing."""
    work = prepared.with_name("work")
    shutil.copytree(prepared, work)
    code, acknowledged, said = in_child(armed, workload, work, n, failure)
    if code not in (_DONE, _REFUSED, _KILLED):
        problem = f"ended with {code}: {' | '.join(said[-3:])}"
    else:
        code, _, said = in_child(after, workload, work, acknowledged)
        problem = "" if code == _DONE else f"{acknowledged} acknowledged, then {code}: {' | '.join(said[-4:])}"
    shutil.rmtree(work)
    return problem


def main(arguments: list[str]) -> int:
    """Test all points, or a sample of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every point")
    parser.add_argument("--points", type=int, default=40, help="otherwise so many, drawn evenly (40)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--only", help="one workload")
    flags = parser.parse_args(arguments)
    if "shim.so" not in os.environ.get("LD_PRELOAD", ""):
        return preload(arguments)
    sys.path.insert(0, str(Path(__file__).parent))
    from workloads import WORKLOADS, quiet

    chosen = [flags.only] if flags.only else list(WORKLOADS)
    losses, counts = 0, Counter()
    with quiet():
        for name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                workload, prepared = WORKLOADS[name](), Path(folder) / "prepared"
                prepared.mkdir()
                workload.prepare(prepared)
                points = points_of(workload, prepared)
                if not flags.all:
                    points = random.Random(flags.seed).sample(points, min(len(points), flags.points // len(chosen)))
                for n, failure in points:
                    counts[name] += 1
                    if problem := try_point(workload, prepared, n, failure):
                        losses += 1
                        print(f"{name}, call {n}, {failure}: {problem}", flush=True)
            print(f"{name}: {counts[name]} points", flush=True)
    print(f"{sum(counts.values())} points, {losses} losses")
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
