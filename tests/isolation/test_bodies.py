"""Ids inside bodies and queries, and fields that nobody may assign."""

import json
from typing import Any, Final

import pytest
from pydantic import BaseModel
from tests.isolation.bodies import JSON, body_models, example_of, fields_of, model_of, name_of
from tests.isolation.grounds import World, snapshot
from tests.isolation.matrix import own_values, target_of
from tests.isolation.wire import Answer, Wire

from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import RouteSpec

pytestmark = pytest.mark.xdist_group("isolation")

# Fields of bodies that name something of a tenant: what they name, and how a foreign one is refused.
_REFERENCES: Final = {
    ("bindings.BindingBody", "principal"): (Prefix.SERVICE_ACCOUNT, 404),
    ("groups.GroupMemberBody", "principal"): (Prefix.SERVICE_ACCOUNT, 404),
    ("keys.KeyBody", "service_account"): (Prefix.SERVICE_ACCOUNT, 404),
    ("workspaces.WorkspaceBody", "tenant"): (Prefix.TENANT, 403),
    ("explaining.Question", "workspace"): (Prefix.WORKSPACE, 404),
    ("explaining.Question", "principal"): (Prefix.SERVICE_ACCOUNT, 404),
    ("jobs.JobBody", "image"): (Prefix.IMAGE, 422),
    ("sandbox_forms.ForkBody", "snapshot"): (Prefix.SNAPSHOT, 404),
    ("grants.GrantBody", "principal"): (Prefix.SERVICE_ACCOUNT, 404),
    # Nothing is revoked of who has nothing here.
    ("grants.PrincipalBody", "principal"): (Prefix.SERVICE_ACCOUNT, 200),
}
# Words that name things of a tenant; a field called so must stand above.
_NOUNS: Final = frozenset(prefix.name.lower() for prefix in Prefix) | {"principal", "group"}
_NOT_REFERENCES: Final = {
    ("jobs.JobBody", "artifacts"),
    ("jobs.JobBody", "secrets"),
    ("sandbox_forms.SandboxBody", "secrets"),
    ("sandbox_forms.SandboxBody", "image"),
    ("policy_tests.TestBody", "job"),
    ("explaining.Question", "job"),
    ("grants.GrantBody", "provider"),
    ("identity_providers.ProviderBody", "client_id"),
    ("identity_providers.ProviderChanges", "client_id"),
    ("evidence_forms.HoldBody", "case_id"),
    ("audit_forgettings.ForgettingBody", "principal"),
}
"""Patterns of paths inside the sandbox; names that are looked for in the workspace alone; what a job would be; clouds;
names that identity providers give; an id that is looked for in the tenant's own events alone, and need not be there."""
_NEVER_ASSIGNED: Final = {
    "id": "ten_00000000000000000000000000",
    "tenant_id": "ten_00000000000000000000000000",
    "workspace_id": "ws_00000000000000000000000000",
    "role": "tenant-admin",
    "is_admin": True,
    "owner_id": "usr_00000000000000000000000000",
    "created_by": "usr_00000000000000000000000000",
    "quota": {"maxProjects": 10**6},
    "status": "active",
    "version": 99,
    "created_at": "2001-01-01T00:00:00Z",
    "erase_after": None,
    "secret": "tenantry_us_platform_00000000000000000000000000000000_000000",
    "verifier": "00",
    "content_key": "00",
    "attempt": 0,
    "__class__": "x",
    "__proto__": {"admin": True},
}


def _foreign_of(world: World, prefix: Prefix) -> list[str]:
    """One of the neighbour's, one from abroad, one that never was: all real but the last."""
    others = (world.neighbour, world.eu)
    if prefix is Prefix.TENANT:
        return [*(g.tenant.id for g in others), *(g.tenant.slug for g in others), format_id(prefix, new_id()), "nobody"]
    if prefix is Prefix.WORKSPACE:
        return [*(g.own for g in others), format_id(prefix, new_id())]
    if prefix is Prefix.IMAGE:
        return [f"{g.tenant.slug}-base" for g in others] + ["t-nobody-base"]
    thing = "snapshot" if prefix is Prefix.SNAPSHOT else "account"
    return [*(g.things[g.own, thing] for g in others), format_id(prefix, new_id())]


def _post(spec: RouteSpec, body: dict[str, Any], world: World, wire: Wire, *, key: str | None = None) -> Answer:
    target = target_of(spec, own_values(spec, world.us))
    content = json.dumps(body).encode()
    return wire.send(spec.method, target, key=key or world.us.admin.key, headers=(JSON,), body=content)


def _specs_with(name: str) -> list[RouteSpec]:
    return [spec for spec in ALL_ROUTES if (model := model_of(spec)) and name_of(model) == name]


def test_every_field_that_names_something_has_a_case() -> None:
    named = {
        (name, field)
        for name, model in body_models().items()
        for field in model.model_fields
        if field.removesuffix("_id").removesuffix("s") in _NOUNS or field.endswith("_id")
    }
    assert named - _NOT_REFERENCES == set(_REFERENCES)


@pytest.mark.parametrize(("name", "field"), _REFERENCES)
def test_a_foreign_id_in_a_body_reads_as_one_that_never_was(name: str, field: str, world: World, wire: Wire) -> None:
    prefix, status = _REFERENCES[name, field]
    specs = _specs_with(name)
    assert specs
    before = snapshot(world.neighbour), snapshot(world.eu)
    for spec in specs:
        model = model_of(spec)
        assert model is not None
        essences = set()
        for value in _foreign_of(world, prefix):
            answer = _post(spec, example_of(model, world.us) | {field: value}, world, wire)
            assert answer.status == status, f"{spec.path} {field}={value}: {answer}"
            text = json.dumps([part if isinstance(part, str) else str(part) for part in answer.essence])
            essences.add(text.replace(value, "…"))
        assert len(essences) == 1, f"{spec.path}: {essences}"
    assert (snapshot(world.neighbour), snapshot(world.eu)) == before


@pytest.mark.parametrize(("name", "field"), _REFERENCES)
def test_an_own_id_in_a_body_works(name: str, field: str, world: World, wire: Wire) -> None:
    """The control beside the refusals."""
    own = {
        Prefix.TENANT: world.us.tenant.slug,
        Prefix.WORKSPACE: world.us.own,
        Prefix.IMAGE: f"{world.us.tenant.slug}-base",
        Prefix.SERVICE_ACCOUNT: world.us.things[world.us.own, "account"],
        Prefix.SNAPSHOT: world.us.things[world.us.own, "snapshot"],
    }
    for spec in _specs_with(name):
        model = model_of(spec)
        assert model is not None
        body = example_of(model, world.us) | {field: own[_REFERENCES[name, field][0]]}
        answer = _post(spec, body, world, wire)
        assert answer.status in (spec.status, 409), f"{spec.path}: {answer}"


def test_a_siblings_account_is_no_principal_of_another_workspace(world: World, wire: Wire) -> None:
    account = world.us.things[world.us.sibling, "account"]
    target = f"/api/v1/workspaces/{world.us.own}"
    key = {"name": "x", "service_account": account, "roles": ["viewer"]}
    for path, body in (("keys", key), ("bindings", {"principal": account, "role": "viewer"})):
        content = json.dumps(body).encode()
        answer = wire.send("POST", f"{target}/{path}", key=world.us.admin.key, headers=(JSON,), body=content)
        assert (answer.status, answer.code) == (404, "not_found"), path


def test_filters_that_name_foreign_things_find_nothing(world: World) -> None:
    owner = world.us.tenant.owner
    for other in (world.neighbour, world.eu):
        for query in (
            {"workspace": other.own},
            {"resource": other.things[other.own, "job"]},
            {"resource": other.own},
            {"actor": other.tenant.owner.get("/me").json()["principal"]["id"]},
        ):
            # What was tried in vain stands in the trail of who tried.
            found = owner.get("/audit", params=query | {"outcome": "success"}).json()
            assert (found["items"], found["next_cursor"]) == ([], None), query


def test_a_workspace_key_filters_the_trail_within_its_workspace_only(world: World) -> None:
    client = world.us.tenant.as_role("auditor", world.us.own)
    for workspace in (world.us.sibling, world.neighbour.own, world.eu.own):
        assert client.get("/audit", params={"workspace": workspace}).json()["items"] == []
    assert client.get("/audit").json()["items"]


@pytest.mark.one_strategy
@pytest.mark.parametrize("name", sorted(body_models()))
def test_nothing_can_be_assigned_that_a_body_does_not_list(name: str, world: World, wire: Wire) -> None:
    """In the body itself and in each object inside it; as its administrator, so that nothing else refuses first."""
    model = body_models()[name]
    faults = []
    for spec in _specs_with(name):
        platform = spec.platform or name == "tenants.TenantBody" or spec.needs == "platform:admin"
        key = world.installation.platform_key if platform else None
        for path, nested in fields_of(model):
            for field, value in _NEVER_ASSIGNED.items():
                if field in nested.model_fields or (nested.__name__ == "WorkspaceOwner" and field == "id"):
                    continue
                body = _with(example_of(model, world.us), path, field, value, nested)
                answer = _post(spec, body, world, wire, key=key)
                if (answer.status, answer.code) != (422, "invalid_request") or field not in answer.body.decode():
                    faults.append(f"{spec.method} {spec.path} {'.'.join((*path, field))}: {answer}")
    assert not faults, "\n".join(faults)


_LISTED: Final[dict[str, dict[str, Any]]] = {
    "network": {"host": "a.example", "port": 443},
    "inputs": {"path": "a", "content_base64": ""},
    "secrets": {"name": "TOKEN"},
    "rules": {"claim": "groups", "contains": "admins", "role": "viewer"},
}
"""An element of each list of objects."""


def _with(
    body: dict[str, Any], path: tuple[str, ...], field: str, value: object, model: type[BaseModel]
) -> dict[str, Any]:
    """Put a field into the object at a path; objects on the way are made where the example has none."""
    if not path:
        return {**body, field: value}
    present = body.get(path[0], {})
    if path[0] in _LISTED:
        return {**body, path[0]: [_with(_LISTED[path[0]], path[1:], field, value, model)]}
    return {**body, path[0]: _with(dict(present), path[1:], field, value, model)}
