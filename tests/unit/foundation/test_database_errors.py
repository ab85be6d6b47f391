"""What PostgreSQL and its driver raise, as the product says it."""

import asyncpg
import pytest

from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.errors import ErrorKind, TenantryError


def raised(error: BaseException) -> TenantryError:
    with pytest.raises(TenantryError) as translated, database_errors():
        raise error
    assert translated.value.__cause__ is error
    return translated.value


@pytest.mark.parametrize(
    ("state", "kind", "code"),
    [
        ("TN001", ErrorKind.DENIED, "tenant_suspended"),
        ("TN002", ErrorKind.UNAVAILABLE, "tenant_read_only"),
        ("TN003", ErrorKind.FAULT, "context_refused"),
        ("TN004", ErrorKind.DENIED, "tenant_unknown"),
        ("08006", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("57P01", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("57P03", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("40001", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("40P01", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("57014", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("25P03", ErrorKind.UNAVAILABLE, "database_unavailable"),
        ("53300", ErrorKind.EXHAUSTED, "database_connections"),
        ("55P03", ErrorKind.CONFLICT, "in_progress"),
    ],
)
def test_a_state_of_the_server_has_its_kind(state: str, kind: ErrorKind, code: str) -> None:
    said = raised(asyncpg.PostgresError.new({"C": state, "M": "query text and rows of a tenant"}))
    assert (said.kind, said.code) == (kind, code)
    assert "of a tenant" not in said.message


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 11"),
        OSError("no such file"),
    ],
)
def test_a_connection_that_is_gone_is_unavailable(error: Exception) -> None:
    assert raised(error).code == "database_unavailable"


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError("x"), asyncpg.UndefinedTableError("x"), ValueError()])
def test_a_mistake_of_ours_passes_through_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as passed, database_errors():
        raise error
    assert passed.value is error
