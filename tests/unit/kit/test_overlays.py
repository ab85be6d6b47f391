"""Layers over each other: what replaces, what merges, who gave it, and that nobody can change the result."""

from types import MappingProxyType
from typing import Any

import pytest

from tenantry.kit.overlays import MAX_DEPTH, differences, lay, paths, thaw

BASE = {"a": 1, "deep": {"x": 1, "y": 2}, "list": [1, 2], "limit": None}


def test_objects_merge_and_all_else_replaces() -> None:
    result = lay([("low", BASE), ("high", {"deep": {"y": 3, "z": 4}, "list": [9], "a": "text"})])
    assert thaw(result.values) == {"a": "text", "deep": {"x": 1, "y": 3, "z": 4}, "list": [9], "limit": None}


def test_each_leaf_names_the_layer_that_gave_it_last() -> None:
    result = lay([("low", BASE), ("mid", {"deep": {"y": 3}}), ("high", {"deep": {"y": 3}, "list": []})])
    assert result.layers == {"a": "low", "deep.x": "low", "deep.y": "high", "list": "high", "limit": "low"}


def test_none_is_a_value_in_either_direction() -> None:
    result = lay([("low", {"max": 5, "min": None}), ("high", {"max": None, "min": 1})])
    assert thaw(result.values) == {"max": None, "min": 1}
    assert result.layers == {"max": "high", "min": "high"}


@pytest.mark.parametrize(
    ("low", "high", "values", "layers"),
    [
        ({"a": {"b": {"c": 1}}}, {"a": 1}, {"a": 1}, {"a": "high"}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}, {"a.b": "high"}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}, {"a.b": "low"}),
        ({"a": {}}, {"a": {"b": 1}}, {"a": {"b": 1}}, {"a.b": "high"}),
        ({"a": 1}, {"a": {}}, {"a": {}}, {"a": "high"}),
        ({}, {}, {}, {}),
    ],
)
def test_an_object_and_a_value_replace_each_other(
    low: dict[str, Any], high: dict[str, Any], values: dict[str, Any], layers: dict[str, str]
) -> None:
    result = lay([("low", low), ("high", high)])
    assert (thaw(result.values), dict(result.layers)) == (values, layers)


def test_every_leaf_has_its_layer_and_nothing_else_has_one() -> None:
    result = lay([("low", BASE), ("mid", {"deep": 4, "list": {"a": {"b": {}}}}), ("high", {"deep": {"n": None}})])
    assert set(result.layers) == set(paths(result.values))


def test_a_value_is_found_by_its_dotted_path() -> None:
    result = lay([("low", BASE)])
    assert result.get("deep.y") == 2
    assert result.get("limit") is None
    assert result.get("deep") == {"x": 1, "y": 2}
    for absent in ("deep.q", "a.b", "limit.x", "", "deep.", ".deep", "list.0"):
        with pytest.raises(KeyError):
            result.get(absent)


def test_nobody_changes_a_result() -> None:
    result = lay([("low", BASE)])
    assert isinstance(result.values, MappingProxyType)
    with pytest.raises(TypeError):
        result.values["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        result.get("deep")["x"] = 2
    with pytest.raises(TypeError):
        result.layers["a"] = "mine"  # type: ignore[index]
    assert result.get("list") == (1, 2)


def test_a_result_shares_nothing_with_what_it_was_made_from() -> None:
    given: dict[str, Any] = {"deep": {"x": 1}, "list": [{"n": [1]}]}
    result = lay([("low", given)])
    given["deep"]["x"] = 2
    given["list"][0]["n"].append(2)
    given["new"] = 1
    assert thaw(result.values) == {"deep": {"x": 1}, "list": [{"n": [1]}]}
    thawed = thaw(result.values)
    thawed["list"][0]["n"].append(3)
    thawed["deep"]["x"] = 3
    assert thaw(result.values) == {"deep": {"x": 1}, "list": [{"n": [1]}]}


def test_two_results_of_one_base_share_nothing() -> None:
    base: dict[str, Any] = {"deep": {"list": [1]}}
    one, other = (lay([("base", base), ("own", {"deep": {"own": name}})]) for name in ("one", "other"))
    assert (one.get("deep.own"), other.get("deep.own")) == ("one", "other")
    assert base == {"deep": {"list": [1]}}


@pytest.mark.parametrize("name", ["", "a.b", 5, None])
def test_a_name_that_no_path_can_say_is_refused(name: Any) -> None:
    for place in ({name: 1}, {"a": {name: 1}}, {"a": [{name: 1}]}):
        with pytest.raises(ValueError, match="name"):
            lay([("low", place)])


@pytest.mark.parametrize("value", [{1, 2}, b"x", object()])
def test_what_json_does_not_know_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        lay([("low", {"a": value})])


def test_nesting_is_bounded_also_when_it_has_no_end() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    looped: list[Any] = []
    looped.append(looped)
    deep: Any = 1
    for _ in range(MAX_DEPTH + 2):
        deep = [deep]
    for value in (endless, {"a": looped}, {"a": deep}):
        with pytest.raises(ValueError, match="nested"):
            lay([("low", value)])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({}, {"a": None}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 1}, ["a.c", "d"]),
        ({"a": {"b": 1}}, {}, ["a.b"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a", "a.b"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
    ],
)
def test_differences_are_told_by_path(before: dict[str, Any], after: dict[str, Any], told: list[str]) -> None:
    assert differences(before, after) == told
