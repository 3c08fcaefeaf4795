"""Two processes compute what one does: the same gradients, and in double precision the same whole training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.runs import SMALLER, launch, losses, results

from math_hash.methods import METHODS, Method
from math_hash.methods.registry import option_names
from math_hash.testing import double_precision

SCRIPT = Path(double_precision.__file__)
TRAINED = [name for name, method in METHODS.items() if method.trained_by_gradient]
FITTED = [name for name in METHODS if name not in TRAINED]
SINGLE = ["MATH single", "MESDCH single"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_dataset, clip_file):
    """A folder: <processes>/<name> is each run's folder, <processes>/<name>.pt its recorded steps."""
    folder = tmp_path_factory.mktemp("processes")
    # 31 training rows in batches of 7: shares are uneven in every step, and the last batch has 3 rows
    flags = [
        "--is-train", "--dataset-root", tiny_dataset.parent, "--dataset", "tiny", "--clip-path", clip_file,
        "--resolution", 32, "--max-words", 12, "--query-num", 10, "--train-num", 40, "--val-num", 9, "--batch-size", 7,
        "--lr", 0.001, "--clip-lr", 0.0003, "--num-workers", 0,
        "--k-bits", 12,
    ]  # fmt: skip
    options = {name: ["--method", name, "--epochs", epochs_of(name), *same_draws(name)] for name in METHODS}
    # its slopes of 10^5 make 10^-16 into 10^-6 within 24 steps at the rates above, even in double precision
    options["MESDCH"] += ["--lr", 0.00001, "--clip-lr", 0.000003]
    options["MATH token"] = ["--method", "MATH", "--fusion", "token", "--epochs", epochs_of("MATH token")]
    options |= {name: ["--method", name.split()[0], "--epochs", 1, "--single"] for name in SINGLE}
    for processes in (1, 2):
        (folder / str(processes)).mkdir()
        each = {
            name: [*map(str, flags), *map(str, own), "--save-dir", str(folder / str(processes) / name)]
            for name, own in options.items()
            if processes == 2 or name not in SINGLE
        }
        launch(processes, [json.dumps(each), str(folder / str(processes))], SCRIPT)
    yield folder
    shutil.rmtree(folder)  # 2 GB


def epochs_of(name):
    """One, but two where something is renewed at the start of an epoch, in representatives of each kind."""
    return 2 if name in ("MATH", "MATH token", "MESDCH", "DCMH", "CMCL", "UCCH", "DNPH", "DSPH", "DGCPN") else 1


def same_draws(name):
    """Each process draws its own dropout, which is left out here; all methods get a gradient in each step."""
    settings = ["dropout=0"] if "dropout" in option_names(name) else []
    settings += ["similar=labels"] if name == "DMsH-LN" else []
    settings += [f"{option}={value}" for option, value in SMALLER.get(name, {}).items()]
    settings += ["graph_lr=0.000001"] if name == "CIRH" else []  # Adam makes rounding of small gradients large
    return ["--set", *settings] if settings else []


def tolerance(name, exact, rounded):
    """The vectors that `prepare` receives are encoded in single precision, in other batches."""
    return exact if METHODS[name.split()[0]].prepare is Method.prepare else rounded


def steps_of(runs, processes, name):
    return torch.load(runs / str(processes) / f"{name}.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRAINED, "MATH token"])
def test_the_gathered_gradients_of_each_turns_first_step_are_equal(runs, name):
    one, two = ([step for step in steps_of(runs, n, name) if "gradients" in step] for n in (1, 2))
    assert [step["turn"] for step in one] == list(METHODS[name.split()[0]].turns)
    for first, second in zip(one, two, strict=True):
        assert second["terms"] == pytest.approx(first["terms"], rel=tolerance(name, 1e-9, 1e-6), abs=1e-12)
        assert second["gradients"].keys() == first["gradients"].keys()
        whole = sum(gradient.norm() ** 2 for gradient in first["gradients"].values()) ** 0.5
        assert whole > 0
        for parameter, gradient in first["gradients"].items():
            error = float((gradient - second["gradients"][parameter]).norm())
            allowed = tolerance(name, 1e-9, 1e-5) * max(float(gradient.norm()), 1e-3 * whole)
            assert error < allowed, parameter


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRAINED, "MATH token"])
def test_a_whole_training_is_equal_in_double_precision(runs, name):
    one, two = steps_of(runs, 1, name), steps_of(runs, 2, name)
    assert len(one) == epochs_of(name) * 5 * len(METHODS[name.split()[0]].turns)
    for number, (first, second) in enumerate(zip(one, two, strict=True)):
        assert second["turn"] == first["turn"]
        assert second["terms"] == pytest.approx(first["terms"], rel=tolerance(name, 1e-7, 1e-4), abs=1e-10), number
    for first, second in zip(losses(runs / "1" / name), losses(runs / "2" / name), strict=True):
        assert second == pytest.approx(first, rel=tolerance(name, 1e-7, 1e-4), abs=1e-10)
    weights, others = (load_file(runs / str(n) / name / "model.safetensors") for n in (1, 2))
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        error = float((value.double() - others[key].double()).norm())
        assert error <= tolerance(name, 1e-6, 1e-3) * float(value.double().norm()) + 1e-12, key


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTED)
def test_methods_that_are_fitted_see_the_same_vectors(runs, name):
    weights, others = (load_file(runs / str(n) / name / "model.safetensors") for n in (1, 2))
    assert torch.allclose(weights["head.means"], others["head.means"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_results_are_those_of_one_process(runs, name):
    first, second = (results(runs / str(n) / name)["mAP"] for n in (1, 2))
    assert set(first) == {"image->text", "text->image", "image->image", "text->text"}
    assert second == pytest.approx(first, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", SINGLE)
def test_in_single_precision_the_first_step_is_the_same_up_to_rounding(runs, name):
    exact, rounded = steps_of(runs, 1, name.split()[0])[0], steps_of(runs, 2, name)[0]
    assert rounded["terms"] == pytest.approx(exact["terms"], rel=1e-5)
    assert rounded["gradients"].keys() == exact["gradients"].keys()
    assert {gradient.dtype for gradient in rounded["gradients"].values()} == {torch.float32}
    for record in losses(runs / "2" / name):
        assert np.isfinite([*record.values()]).all()


GATHER = """
import numpy as np
import torch
from accelerate import Accelerator
from math_hash.training.distributed import gather_rows, share_of
accelerator = Accelerator()
place, processes = accelerator.process_index, accelerator.num_processes
for rows in (1, 2, 5, 8):
    for dtype in (torch.float32, torch.float64):
        whole = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows), dtype=torch.float64).to(dtype)
        share = whole[share_of(np.arange(rows), place, processes)].requires_grad_()
        gathered = gather_rows(share, rows)
        assert gathered.dtype == dtype and torch.equal(gathered, whole), rows
        gathered.square().sum().backward()
        # every process takes the loss of all rows; the average over processes follows
        at = share_of(np.arange(rows), place, processes)
        given = torch.zeros(rows, 3, dtype=dtype).index_add_(0, torch.from_numpy(at), share.grad)
        total = accelerator.reduce(given, "sum") / processes
        assert torch.allclose(total, 2 * whole, rtol=1e-6, atol=0), (rows, total, whole)
accelerator.wait_for_everyone()
accelerator.end_training()  # a process group that is alive at exit may abort the process
"""


@pytest.mark.slow
def test_gathering_joins_the_shares_with_their_gradients(tmp_path):
    (tmp_path / "gather.py").write_text(GATHER)
    for processes in (2, 3):
        launch(processes, [], tmp_path / "gather.py")
