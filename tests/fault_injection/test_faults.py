"""Writes, syncs and renames that fail, or that the process does not survive: a sample of `run.py --all`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs Linux and gcc")
def test_whatever_write_fails_nothing_that_was_acknowledged_is_lost():
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--points", "48"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " 0 losses" in done.stdout
