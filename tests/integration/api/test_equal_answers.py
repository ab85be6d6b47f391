"""Of credentials that open nothing, one takes the way of any other: what is asked, and what is answered."""

import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import Asked, Beside, problem, tap_sessions

from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.foundation.ids import Prefix, new_id, parse_id

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return tap_sessions(monkeypatch)


async def test_a_wrong_key_and_one_of_nobody_are_looked_for_alike(
    beside: Beside, acme: Tenant, dev: str, asked: Asked
) -> None:
    tenant_id, workspace_id = parse_id(Prefix.TENANT, acme.id), parse_id(Prefix.WORKSPACE, dev)
    scopes = [
        (ScopeKind.TENANT, tenant_id),
        (ScopeKind.TENANT, new_id()),
        (ScopeKind.WORKSPACE, workspace_id),
        (ScopeKind.WORKSPACE, new_id()),
        (ScopeKind.PLATFORM, None),
    ]
    ways, bodies = set(), set()
    for kind, scope_id in scopes:
        for trail in beside.runtime.trails.values():
            await trail.flush()  # of what was noted before: it would be written now
        asked.clear()
        async with beside.client(make_credential(region="us", kind=kind, scope_id=scope_id).text) as client:
            refused = problem(await client.get("/me"), 401, "credential_refused")
        ways.add(tuple(asked))
        bodies.add((refused["detail"], refused["layer"], refused["title"]))
    assert len(ways) == 1, ways
    assert len(next(iter(ways))) == 1
    assert len(bodies) == 1
