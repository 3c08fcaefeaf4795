"""Threads of the kernels: beside other threads, in forked processes, and beside a user's own numba code."""

import os
import subprocess
import sys

import pytest

_WORK = """
import numba
if {own}:
    numba.set_num_threads(1)
    @numba.njit(parallel=True)
    def own(n):
        total = 0
        for i in numba.prange(n):
            total += i
        return total
    assert own(10) == 45
import os
before = dict(os.environ)
import multiprocessing, sys, threading
import numpy as np
from math_hash.evaluation.average_precision import average_precision
from math_hash.hamming import scan
from math_hash.hamming.codes import as_planes
assert dict(os.environ) == before

bits = np.random.default_rng(0).integers(0, 2, (2000, 16), dtype=np.uint8)
codes = np.packbits(bits, axis=1)
planes = as_planes(np.tile(codes, (600, 1)))

def work(_):
    rows, distances = scan.nearest(codes[:1], planes, 16, 20)
    return average_precision(bits[:40], bits, bits[:40, :4], bits[:, :4]).tolist(), rows.tolist(), distances.tolist()

wanted, results = work(0), []
threads = [threading.Thread(target=lambda: results.append(work(0))) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert results == [wanted] * 8
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(work, range(4)).get(60) == [wanted] * 4
if {own}:
    assert (numba.get_num_threads(), own(11), numba.threading_layer()) == (1, 55, "{layer}")
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_eight_threads_and_forked_processes_work_beside_the_users_own_numba_code(layer):
    environment = os.environ | {"NUMBA_NUM_THREADS": "4", "NUMBA_THREADING_LAYER": layer}
    environment.pop("OMP_NUM_THREADS", None)
    code = _WORK.format(own=layer == "workqueue", layer=layer)  # GNU OpenMP, once it was used, cannot be forked itself
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


_NUMBA_FIRST = """
import numba, os
threads = numba.get_num_threads()  # starts numba's threads
os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
from math_hash.evaluation.average_precision import average_precision
bits = np.eye(8, dtype=np.uint8)
average_precision(bits, bits, bits, bits)
numba.core.config.reload_config()
numba.njit(lambda x: x + 1)(1)
print(numba.get_num_threads() == threads)
"""


def test_numba_that_was_started_with_other_threads_stays_as_it_is():
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS",)}
    done = subprocess.run(
        [sys.executable, "-c", _NUMBA_FIRST], env={**environment, "NUMBA_NUM_THREADS": "3"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-2000:]


_CALLED = "from math_hash.hamming.kernels import compiled\n\n\n@compiled\ndef called(x):\n    return x + {}\n"
_CALLER = (
    "from called import called\nfrom math_hash.hamming.kernels import compiled\n\n\n@compiled\ndef caller(x):\n"
    "    return called(x)\n\n\nprint(caller(1))\n"
)


def test_a_kernel_is_compiled_again_when_one_that_it_calls_has_changed(tmp_path):
    (tmp_path / "caller.py").write_text(_CALLER)
    for added in (1, 2):
        (tmp_path / "called.py").write_text(_CALLED.format(added))
        done = subprocess.run([sys.executable, str(tmp_path / "caller.py")], capture_output=True, text=True)
        assert done.stdout == f"{1 + added}\n", done.stderr[-2000:]
    assert list((tmp_path / "__pycache__").glob("caller.caller*.nbi"))  # it was cached
