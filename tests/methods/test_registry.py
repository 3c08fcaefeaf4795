"""Options of methods, and finding methods by name."""

from typing import Literal

import pytest

from math_hash import InputError
from math_hash.methods import METHODS, PooledMethod, complete_options, find_method, method_names, name_of, short_name
from math_hash.methods.option_values import as_type


class Listing(PooledMethod):
    """A method with options of many kinds, some of which `Config` also has."""

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        widths: tuple[int, ...] = (64, 128),
        names: list[str] | None = None,
        dropout: float = 0.5,
        seed: int = 7,
        epochs: int = 3,
        bits: int = 9,
        num_labels: int = 2,
        kind: Literal["a", "b"] = "a",
    ):
        super().__init__(width, k_bits)
        self.options = {"widths": widths, "names": names, "dropout": dropout, "seed": seed, "epochs": epochs}


class Demanding(PooledMethod):
    """A method whose constructor asks for a fact that is not provided."""

    def __init__(self, width: int, k_bits: int, temperature_of_the_room: float):
        super().__init__(width, k_bits)


LISTING = f"{__name__}:Listing"


def test_options_come_from_the_constructor_with_its_defaults():
    assert complete_options("MLSPH", {"centered": "true", "quan": 0.5}, {}) == {
        "centered": True, "text_net": "layers", "intra": 1.4, "quan": 0.5, "scale": 10.0, "hidden": 2048,
    }  # fmt: skip
    assert complete_options("DSPH", {}, {"num_labels": 7})["num_labels"] == 7


def test_nothing_but_a_setting_changes_an_option():
    facts = {"num_labels": 7, "stage_widths": None}
    options = complete_options(LISTING, {}, facts)
    assert options == {
        "widths": (64, 128), "names": None, "dropout": 0.5, "seed": 7, "epochs": 3, "bits": 9, "num_labels": 2,
        "kind": "a",
    }  # fmt: skip
    assert complete_options(LISTING, {"dropout": 0, "num_labels": 3}, facts)["dropout"] == 0
    assert complete_options(LISTING, {"widths": [1, 2, 3]}, facts)["widths"] == (1, 2, 3)
    assert complete_options(LISTING, {"names": ["x", "y"]}, facts)["names"] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "given", "facts", "message"),
    [
        (
            "MLSPH",
            {"gamma": 1},
            {},
            "gamma: MLSPH has none of that name; it takes centered=False, text_net=layers, intra",
        ),
        ("DCMH", {"hyper_intra": 4.0}, {}, "hyper_intra: DCMH has none of that name"),
        ("MLSPH", {"quan": "much"}, {}, "`method_options` quan=much: expected float, not 'much'"),
        ("MLSPH", {"centered": "maybe"}, {}, "expected bool, not 'maybe'"),
        ("LSH", {"a": 1}, {}, "LSH has none of that name; it takes no options"),
        ("MATH", {"fusion": "all"}, {}, "expected one of batch, token"),
        ("SCAHN", {}, {"stage_widths": None}, "SCAHN: needs stage_widths"),
        ("XYZ", {}, {}, "method XYZ is not installed: pip install .* installed are MATH, MITH"),
        (LISTING, {"widths": "many"}, {}, r"expected tuple\[int, ...\]"),
        (LISTING, {"widths": [1, "x"]}, {}, r"expected tuple\[int, ...\]"),
        (LISTING, {"kind": "c"}, {}, "expected one of a, b"),
        (f"{__name__}:Demanding", {}, {"num_labels": 1}, "asks for temperature_of_the_room; expected width, k_bits"),
    ],
)
def test_a_wrong_option_is_one_line(name, given, facts, message):
    with pytest.raises(InputError, match=message) as refused:
        complete_options(name, given, facts)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        ("1e-3", float, 0.001), (2, float, 2.0), (3.0, int, 3), (True, bool, True), ("False", bool, False),
        ([1, 2], tuple[int, int], (1, 2)), ([1], list[float], [1.0]), (None, int | None, None), (4, int | None, 4),
        ("word", str, "word"), ({"a": 1}, dict[str, int], {"a": 1}), ([1, "a"], list, [1, "a"]),
        (3, int | str, 3), ("x", int | str, "x"),
    ],
)  # fmt: skip
def test_values_become_the_annotated_type(value, hint, result):
    converted = as_type(value, hint, "rate=x")
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("value", "hint"), [(True, int), (1.5, int), ([1, 2, 3], tuple[int, int]), (5, str), (1, bool), ("a", int | None)]
)
def test_values_of_another_type_are_refused(value, hint):
    with pytest.raises(InputError, match="rate=x: expected"):
        as_type(value, hint, "rate=x")


def test_names_lead_to_classes_and_back():
    assert method_names()[: len(METHODS)] == list(METHODS)
    for name, method in METHODS.items():
        assert find_method(name) is method
        assert name_of(method) == name == short_name(name)
    assert find_method(LISTING) is Listing
    assert name_of(Listing) == LISTING
    assert short_name(LISTING) == "Listing"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_package.x:Y",
            "no_such_package.x:Y is not installed: pip install the package that brings no_such",
        ),
        ("math_hash.methods:Nothing", "is not installed"),
        ("math_hash.methods:METHODS", "expected a subclass of math_hash.methods.Method"),
        (":", "is not installed"),
    ],
)
def test_anything_but_a_method_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message):
        find_method(name)


def test_an_untrusted_dotted_name_is_not_imported():
    with pytest.raises(InputError, match="a model from a hub may not import"):
        find_method(LISTING, trusted=False)


def test_a_class_inside_a_function_has_no_name():
    class Hidden(PooledMethod):
        pass

    with pytest.raises(InputError, match="inside a function"):
        name_of(Hidden)
