"""Reading the files of a run, and running main.py in several processes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import scipy.io
from conftest import ON_CPU, launcher

ROOT = Path(__file__).resolve().parents[2]
# the slowest methods' options, with which they take a quarter of the time; UCCH has 37 million parameters otherwise
SMALLER = {"UCCH": {"widths": [64, 64]}, "DHaPH": {"proxies": 20, "triplets": 5}}


def run_folder(flags: list[str]) -> Path:
    return Path(flags[flags.index("--save-dir") + 1])


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[dict[str, float]]:
    """Each epoch's loss terms."""
    return [record["losses"] for record in metrics(folder)]


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def exported(folder: Path) -> dict[str, np.ndarray]:
    content = scipy.io.loadmat(folder / "PR_curve" / "MATH-tiny-12.mat")
    return {name: content[name] for name in ("q_img", "q_txt", "r_img", "r_txt", "q_l", "r_l")}


def launch(processes: int, arguments: list[str], script: str | Path = "main.py") -> None:
    """Run main.py, or another script, in one or several CPU processes (gloo)."""
    command = [*launcher(processes), str(script), *arguments]
    environment = os.environ | ON_CPU | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
