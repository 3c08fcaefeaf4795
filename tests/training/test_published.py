"""What the leaderboard says about its methods' provenance."""

from math_hash.training.published import provenance_page


def test_what_a_release_has_and_a_method_lacks_is_said():
    page = " ".join(provenance_page(["MATH", "DPBE", "MMACH"]))
    assert "Equal to the authors' released code: MATH, DPBE." in page
    assert "DPBE is without its Laplace approximation." in page
    assert page.endswith("of which no code was released: MMACH.")
    assert "Laplace" not in " ".join(provenance_page(["MATH"]))
