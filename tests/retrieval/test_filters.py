"""Filters on metadata: which rows pass, in the embedded engine, and their form in a shell."""

import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from math_hash.errors import InputError
from math_hash.retrieval import open_index
from math_hash.retrieval.filters import clauses_of, parse_filters

NAMES = ["a", 'q"uote', "tab\there", "new\nline", "back\\slash", "nul\0l", "ключ", "a.b", "$", "-1"]
SCALARS = ["d", "d\0g", "x", "", 0, 1, 1.0, -1, 0.5, 2**53, 2**53 + 1, True, False]
names, scalars = st.sampled_from(NAMES), st.sampled_from(SCALARS)
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=3), st.just([["x"]]), st.just({"a": "x", "d": "d"}))
bounds = st.one_of(
    st.fixed_dictionaries({"min": st.sampled_from([-1, 0.5, 2**53 + 1])}),
    st.fixed_dictionaries({"min": st.sampled_from([-1, 0]), "max": st.sampled_from([0.5, 2**53])}),
    st.fixed_dictionaries({"max": st.sampled_from(["d", "x"])}),
)
plain = st.one_of(scalars, bounds, st.lists(st.one_of(scalars, bounds), min_size=1, max_size=3))
negated = st.one_of(plain, st.builds(lambda condition: {"not": condition}, plain))
conditions = st.one_of(negated, st.builds(lambda several: {"all": several}, st.lists(negated, min_size=1, max_size=2)))


def meets(value, condition):
    """The table in `filters`, read literally."""
    if isinstance(condition, list):
        return any(meets(value, one) for one in condition)
    if isinstance(condition, dict) and "all" in condition:
        return all(meets(value, one) for one in condition["all"])
    if isinstance(condition, dict) and "not" in condition:
        return not meets(value, condition["not"])
    if isinstance(condition, dict):
        kind = str if isinstance(next(iter(condition.values())), str) else float
        if kind is float and type(value) is int:
            value, kind = int(value), int
        return type(value) is kind and not (
            ("min" in condition and value < condition["min"]) or ("max" in condition and value > condition["max"])
        )
    members = value if isinstance(value, list) else [value]
    numbers = (int, float)
    return any(
        (type(member) is type(condition) or (type(member) in numbers and type(condition) in numbers))
        and member == condition
        for member in members
    )


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.dictionaries(names, values, max_size=3), min_size=1, max_size=6),
    where=st.dictionaries(names, conditions, min_size=1, max_size=2),
)
def test_the_rows_that_pass_are_those_of_a_brute_force(tmp_path_factory, rows, where):
    codes = np.zeros((len(rows), 1), np.uint8)
    with open_index(tmp_path_factory.mktemp("filter") / "i", 8) as index:
        index.add(range(len(rows)), codes, rows)
        present = {name for row in rows for name in row}
        assert index.fields() == present
        if not where.keys() <= present:
            with pytest.raises(InputError, match="no row has the field"):
                index.search(codes[:1], 10, where)
            return
        wanted = [i for i, row in enumerate(rows) if all(meets(row.get(name), c) for name, c in where.items())]
        assert index.search(codes[:1], 10, where)[0].ids.tolist() == wanted
        assert index.search_radius(codes[:1], 0, where)[0].ids.tolist() == wanted


def test_a_filter_does_not_look_inside_objects(tmp_path):
    codes = np.zeros((2, 1), np.uint8)
    with open_index(tmp_path / "i", 8) as index:
        index.add(["inside", "itself"], codes, [{"a": {"a": "dog"}, "b": [{"a": "dog"}]}, {"a": "dog"}])
        assert index.search(codes[:1], 3, {"a": "dog"})[0].ids.tolist() == ["itself"]
        assert index.search(codes[:1], 3, {"b": "dog"})[0].ids.tolist() == []


def test_an_unknown_field_is_named_and_label_and_labels_stand_for_each_other(tmp_path):
    codes = np.zeros((2, 1), np.uint8)
    with open_index(tmp_path / "i", 8) as index:
        assert index.search(codes[:1], 3, {"lable": "dog"})[0].ids.tolist() == []  # there is nothing yet
        index.add(["a", "b"], codes, [{"labels": ["dog", "pet"], "year": 2015}, None])
        for where in ({"lable": "dog"}, {"lable": {"not": "dog"}}):
            with pytest.raises(InputError, match="no row has the field 'lable'; fields are labels, year"):
                index.search(codes[:1], 3, where)
        for name in ("label", "labels"):
            assert index.search(codes[:1], 3, {name: "pet"})[0].ids.tolist() == ["a"]
        assert index.search(codes[:1], 3, {"label": {"not": "pet"}})[0].ids.tolist() == ["b"]


@pytest.mark.parametrize(
    "where",
    [
        {"": 1}, {1: 1}, {"a": None}, {"a": []}, {"a": [[1]]}, {"a": {}}, {"a": {"min": 1, "max": "2"}},
        {"a": {"min": None}}, {"a": {"min": True}}, {"a": {"above": 1}}, {"a": {"not": {"not": 1}}}, {"a": {"all": []}},
        {"a": {"all": 1}}, {"a": float("nan")}, {"a": {"max": float("inf")}}, {"a": 2**63}, {"a": list(range(1001))},
        {"\ud800": 1}, {"a": "\ud800"},
    ],
    ids=ascii,
)  # fmt: skip
def test_a_filter_of_another_form_is_refused(where):
    with pytest.raises(InputError, match=r"^where.*expected"):
        clauses_of(where)


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        (["label=dog"], {"label": "dog"}),
        (["label=dog|small cat|"], {"label": ["dog", "small cat", ""]}),
        (['label="dog|cat"|"7"'], {"label": ["dog|cat", "7"]}),
        (["label!=dog|cat"], {"label": {"not": ["dog", "cat"]}}),
        (["label=dog", "label=cat"], {"label": {"all": ["dog", "cat"]}}),
        (["year=2015"], {"year": [2015, "2015"]}),
        (["ok=true", "zip=007"], {"ok": [True, "true"], "zip": "007"}),
        (["year>=2015", "year<=2018"], {"year": {"all": [{"min": 2015}, {"max": 2018}]}}),
        (["year=2015..2018"], {"year": {"min": 2015, "max": 2018}}),
        (["x=-1.5..|7"], {"x": [{"min": -1.5}, 7, "7"]}),
        (["year!=..2000"], {"year": {"not": {"max": 2000}}}),
        (["day=2015-03-01..2016-01"], {"day": {"min": "2015-03-01", "max": "2016-01"}}),
        (['day>="2015"'], {"day": {"min": "2015"}}),
        (["url=http://x?a=1", "file=a..b", "dots=.."], {"url": "http://x?a=1", "file": "a..b", "dots": ".."}),
        (["n=1e999", "m=NaN"], {"n": "1e999", "m": "NaN"}),
    ],
)
def test_what_a_shell_user_writes(texts, where):
    assert parse_filters(texts) == where
    clauses_of(where)


@pytest.mark.parametrize("text", ["label", "=dog", "year>2015", 'label="dog"cat', 'label="\\x"', "ok>=true", "a>=1|2"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match=r"^`filter` .*(expected|is no JSON string)"):
        parse_filters([text])


def test_metadata_of_any_depth_and_size_is_refused_on_the_way_in(tmp_path):
    deep, ring = {}, {}
    for _ in range(100_000):
        deep = {"a": deep}
    ring["a"] = ring
    with open_index(tmp_path / "i", 8) as index:
        for metadata, message in (
            (deep, "nested too deeply; expected at most 32"),
            (ring, "nested too deeply"),
            ({"a": "é" * 600_000}, "600009 characters; expected at most 1048576 bytes"),
            ({"a": "\ud800"}, "half a character"),
            ({"a": {1, 2}}, "expected a JSON object"),
        ):
            with pytest.raises(InputError, match=f"metadata of id 'b': .*{message}") as caught:
                index.add(["a", "b"], np.zeros((2, 1), np.uint8), [None, metadata])
            assert len(str(caught.value)) < 200
        assert len(index) == 0


def test_a_damaged_row_passes_no_filter(tmp_path):
    with open_index(tmp_path / "i", 8) as index:
        index.add(["a", "b"], np.zeros((2, 1), np.uint8), [{"x": 1}, {"x": 2}])
        index.save()
    database = sqlite3.connect(tmp_path / "i" / "rows.sqlite")
    with database:
        database.execute("UPDATE rows SET metadata = '{\"x\": 3' WHERE id = 'b'")
    database.close()
    with open_index(tmp_path / "i") as index:
        for x, found in ((1, ["a"]), ({"min": 1}, ["a"])):
            assert index.search(np.zeros((1, 1), np.uint8), 3, {"x": x})[0].ids.tolist() == found
