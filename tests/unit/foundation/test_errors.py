"""The one tree of errors: each kind has one class, the drawing shows them all, none is told by its message."""

import re

import pytest

from tenantry.foundation import errors
from tenantry.foundation.errors import ErrorKind, TenantryError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TenantryError)]


def test_each_kind_has_one_class_and_the_drawing_shows_it() -> None:
    leaves = [kind for kind in CLASSES if kind is not TenantryError]
    assert sorted(kind.kind for kind in leaves) == sorted(ErrorKind)
    assert re.findall(r"[├└]── (\w+)", errors.__doc__ or "") == [kind.__name__ for kind in leaves]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_carries_its_code_its_layer_and_its_fields(kind: type[TenantryError]) -> None:
    error = kind("some_code", "what went wrong: how to mend it", layer="guard", field="name")
    assert (error.code, error.message, error.layer) == ("some_code", "what went wrong: how to mend it", "guard")
    assert error.fields == {"field": "name"}
    assert str(error) == error.message


def test_an_unnamed_error_is_a_fault_of_ours() -> None:
    assert TenantryError("x", "x").kind is ErrorKind.FAULT
