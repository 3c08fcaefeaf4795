"""An external method: the package in docs/own_method.md, installed, by its dotted name, and missing."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_method.md").read_text()
ENCODE = """
import sys, math_hash
print(math_hash.load_model(sys.argv[1]).encode_text(["red", "blue"]).tolist())
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The page's package, as files."""
    folder = tmp_path_factory.mktemp("package")
    code, project = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "toml"))
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 35
    (folder / "csq_hash").mkdir()
    (folder / "csq_hash" / "__init__.py").write_text(code)
    (folder / "pyproject.toml").write_text(project)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory, package):
    """The Python of an environment with this one's packages and the page's package."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    (Path(own.stdout.strip()) / "of_the_tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*install, "--no-build-isolation", package], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def run(python, *arguments, **environment):
    return subprocess.run(
        [python, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": ""} | environment,
    )


@pytest.mark.slow
def test_installed_it_trains_saves_loads_and_encodes(environment, tiny_flags, tmp_path, package):
    flags = [*tiny_flags, "--method", "CSQ", "--set", "quan=0.3", "--epochs", "1"]
    done = run(environment, "-m", "math_hash", "train", *flags)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["method"] == "CSQ"
    assert saved["method_options"] == {"num_labels": 3, "quan": 0.3}
    done = run(environment, "-c", ENCODE, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert np.array(json.loads(done.stdout)).shape == (2, 2)

    missing = run(sys.executable, "-c", ENCODE, tmp_path / "run", PYTHONPATH=str(ROOT))
    assert "InputError" in missing.stderr
    last = missing.stderr.strip().splitlines()[-1]
    assert "method CSQ is not installed: pip install the package that brings it" in last

    commands = run(sys.executable, "-m", "math_hash", "encode", tmp_path / "run", "x", "--output", tmp_path / "codes")
    assert commands.returncode == 2
    assert len(commands.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_by_its_dotted_name_it_opens_if_it_can_be_imported(tiny_flags, tmp_path, package):
    flags = [*tiny_flags, "--method", "csq_hash:CSQ", "--epochs", "1"]
    done = run(sys.executable, ROOT / "main.py", "--is-train", *flags, PYTHONPATH=str(package))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "PR_curve" / "CSQ-tiny-12.mat").is_file()
    assert run(sys.executable, "-c", ENCODE, tmp_path / "run", PYTHONPATH=f"{package}:{ROOT}").returncode == 0
    missing = run(sys.executable, "-c", ENCODE, tmp_path / "run", PYTHONPATH=str(ROOT))
    last = missing.stderr.strip().splitlines()[-1]
    assert "method csq_hash:CSQ is not installed: pip install the package that brings csq_hash, or import it" in last


@pytest.mark.slow
def test_the_test_shown_on_the_page_passes(package):
    code = """
import sys
from math_hash.testing import check_method
from csq_hash import CSQ
check_method(CSQ, {"quan": 0.2}, processes=1)
"""
    done = run(sys.executable, "-c", code, PYTHONPATH=f"{package}:{ROOT}")
    assert done.returncode == 0, done.stdout + done.stderr
