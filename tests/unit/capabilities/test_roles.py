"""The vocabulary's permissions and built-in roles, copied from its tables, and the rules every role keeps."""

import pytest

from tenantry.capabilities.access.types import BUILT_IN_ROLES, INCLUDES, TENANT_WIDE_ROLES, Permission

PERMISSIONS = """
tenant:read tenant:admin workspace:read workspace:create workspace:update workspace:admin member:read member:admin
key:read key:admin grant:request grant:read grant:admin role:read role:admin
sandbox:read sandbox:create sandbox:update sandbox:start sandbox:stop sandbox:delete sandbox:exec sandbox:connect
job:read job:create job:cancel artifact:read artifact:create artifact:delete image:read image:admin
workflow:read workflow:create workflow:publish workflow:cancel
run:read run:create run:cancel run:delete secret:read secret:admin secret:use
approval:read approval:decide policy:read policy:create policy:admin limit:read limit:admin usage:read
connector:read connector:admin provider_key:read provider_key:admin llm:call vault:read vault:create
project:read project:admin deployment:read deployment:plan deployment:apply deployment:destroy
state:read state:write state:unlock session:read session:admin audit:read evidence:read evidence:admin
insight:read alert:read alert:admin platform:admin
"""

VIEWER = """
workspace:read sandbox:read job:read artifact:read image:read workflow:read run:read project:read deployment:read
usage:read grant:request grant:read
"""

ROLES = {
    "operator": """
        workspace:read
        sandbox:read sandbox:create sandbox:update sandbox:start sandbox:stop sandbox:delete sandbox:exec
        sandbox:connect
        job:read job:create job:cancel artifact:read artifact:create artifact:delete image:read
        workflow:read workflow:create workflow:publish workflow:cancel run:read run:create run:cancel
        policy:read limit:read usage:read connector:read secret:read secret:use llm:call vault:create vault:read
        project:read deployment:read deployment:plan approval:read evidence:read session:read insight:read alert:read
        grant:request grant:read
    """,
    "approver": """
        workspace:read approval:read approval:decide run:read job:read artifact:read workflow:read deployment:read
        policy:read audit:read evidence:read grant:request grant:read
    """,
    "auditor": """
        tenant:read workspace:read member:read key:read grant:read role:read sandbox:read job:read artifact:read
        image:read workflow:read run:read approval:read policy:read limit:read usage:read connector:read
        provider_key:read project:read deployment:read session:read audit:read evidence:read insight:read alert:read
    """,
    "integration-admin": """
        workspace:read workspace:update connector:read connector:admin provider_key:read provider_key:admin
        secret:read secret:admin grant:request grant:read
    """,
    "viewer": VIEWER,
    "deployer": VIEWER + "deployment:plan deployment:apply project:read state:write approval:read",
    "ci": """
        workspace:read sandbox:read job:read job:create job:cancel artifact:read artifact:create image:read
        workflow:read run:read run:create run:cancel
    """,
    "platform-admin": "platform:admin",
    "workspace-admin": " ".join(set(PERMISSIONS.split()) - {"tenant:read", "tenant:admin", "platform:admin"}),
    "tenant-admin": " ".join(set(PERMISSIONS.split()) - {"platform:admin"}),
}

NEEDS = {"job:create": "sandbox:read", "workflow:create": "job:create", "deployment:apply": "deployment:plan"}


def test_the_permissions_are_the_vocabularys() -> None:
    assert {permission.value for permission in Permission} == set(PERMISSIONS.split())


def test_the_roles_are_the_vocabularys() -> None:
    assert set(BUILT_IN_ROLES) == set(ROLES)


@pytest.mark.parametrize(("role", "permissions"), ROLES.items(), ids=ROLES)
def test_a_role_holds_exactly_what_the_vocabulary_says(role: str, permissions: str) -> None:
    assert {permission.value for permission in BUILT_IN_ROLES[role]} == set(permissions.split())


@pytest.mark.parametrize("role", BUILT_IN_ROLES)
@pytest.mark.parametrize(("permission", "needed"), NEEDS.items(), ids=NEEDS)
def test_no_role_holds_a_permission_without_what_it_needs(role: str, permission: str, needed: str) -> None:
    held = BUILT_IN_ROLES[role]
    assert Permission(permission) not in held or Permission(needed) in held


@pytest.mark.parametrize("role", sorted(set(BUILT_IN_ROLES) - {"workspace-admin", "tenant-admin"}))
def test_reading_state_is_implied_by_nothing_but_administering(role: str) -> None:
    assert Permission.STATE_READ not in BUILT_IN_ROLES[role]


@pytest.mark.parametrize("role", sorted(set(BUILT_IN_ROLES) - {"platform-admin"}))
def test_no_role_of_a_tenant_reaches_the_installation(role: str) -> None:
    assert Permission.PLATFORM_ADMIN not in BUILT_IN_ROLES[role]


def test_an_auditor_changes_nothing() -> None:
    assert all(permission.endswith(":read") for permission in BUILT_IN_ROLES["auditor"])


def test_administering_includes_what_its_role_holds() -> None:
    assert {place: set(held) for place, held in INCLUDES.items()} == {
        Permission.WORKSPACE_ADMIN: {Permission(name) for name in ROLES["workspace-admin"].split()},
        Permission.TENANT_ADMIN: {Permission(name) for name in ROLES["tenant-admin"].split()},
    }


def test_only_the_administrators_of_tenant_and_installation_are_tenant_wide() -> None:
    assert {"tenant-admin", "platform-admin"} == TENANT_WIDE_ROLES
