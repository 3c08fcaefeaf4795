"""The methods' objectives, heads and optimizer compute what their authors' released code computed.

The numbers are in `released-objectives/` beside the data, or in the folder that MATH_HASH_RELEASED_OBJECTIVES names.
"""

import inspect

import pytest
import torch
from released import objectives
from released.fixtures import FOLDER, case_names, read_case

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is absent")

FUNCTIONS = {
    "MATH": objectives.math,
    "MITH": objectives.mith,
    "DCMH": objectives.dcmh,
    "MLSPH": objectives.mlsph,
    "MESDCH": objectives.mesdch,
    "SCAHN": objectives.scahn,
    "DSPH": objectives.dsph,
    "DCGH": objectives.dcgh,
    "DCHMT": objectives.dchmt,
    "DNPH": objectives.dnph,
    "DNpH": objectives.dnph_quadratic,
    "DPBE": objectives.dpbe,
    "DDBH": objectives.ddbh,
    "DDWSH": objectives.ddwsh,
    "DScPH": objectives.dscph,
    "DMsH-LN": objectives.dmsh_ln,
    "TwDH": objectives.twdh,
    "DPSIH": objectives.dpsih,
    "DIMCH": objectives.dimch,
    "DJSRH": objectives.djsrh,
    "JDSH": objectives.jdsh,
    "UCCH": objectives.ucch,
    "DGCPN": objectives.dgcpn,
}
UNIT = {"res_img_cls", "res_txt_cls", "res_lab_cls"}
LOOSE = {("DIMCH", "mmd"): 3e-4}  # float32 distances of near points
CASES = [(method, case) for method in FUNCTIONS if FOLDER.is_dir() for case in case_names(method)]


@pytest.mark.parametrize(("method", "name"), CASES, ids=[f"{method}-{case}" for method, case in CASES])
def test_terms_total_and_gradients_are_the_released_ones(method, name):
    torch.manual_seed(0)
    case = read_case(method, name)
    function = FUNCTIONS[method]
    named = len(inspect.signature(function).parameters) == 2
    terms, names = function(case, name) if named else function(case)
    assert set(terms) == set(names)
    for ours, theirs in names.items():
        expected = sum(case.weight[term] * case.term[term] for term in theirs)
        tolerance = max(LOOSE.get((method, term), 5e-5) for term in theirs)
        assert float(terms[ours].detach()) == pytest.approx(expected, rel=tolerance, abs=1e-9), ours
    left = {term for term, weight in case.weight.items() if weight} - {t for these in names.values() for t in these}
    assert not left
    total = sum(terms.values())
    assert float(total.detach()) == pytest.approx(case.total, rel=5e-5)
    total.backward()
    assert case.grad
    for key, expected in case.grad.items():
        gradient = case.x[key].grad
        gradient = torch.zeros_like(expected) if gradient is None else gradient
        if key in UNIT:  # our objective makes unit rows itself, which takes the part along the row away
            expected = expected - (expected * case.x[key]).sum(dim=1, keepdim=True) * case.x[key]
        largest = float(expected.abs().max())
        assert float((gradient - expected).abs().max()) <= 1e-4 * largest, key
