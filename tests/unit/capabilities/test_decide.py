"""The one decision: allowed only by what was compiled for that place, with the reason; everything else is denied."""

from collections.abc import Iterable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenantry.capabilities.access.service.decide import Grantor, decide, joined, permissions_of
from tenantry.capabilities.access.service.decide import compile_access as compile_sources
from tenantry.capabilities.access.types import (
    BUILT_IN_ROLES,
    INCLUDES,
    Access,
    Decision,
    Outcome,
    Permission,
    Source,
)
from tenantry.foundation.errors import Denied, Invalid

HERE, THERE, UNKNOWN = UUID(int=1), UUID(int=2), UUID(int=3)
PLACES = st.sampled_from([None, HERE, THERE])
SOURCES = st.lists(st.tuples(PLACES, st.text(max_size=5), st.sets(st.sampled_from(Permission), max_size=4)), max_size=5)


def compile_access(sources: Iterable[tuple[UUID | None, str, Iterable[Permission]]]) -> Access:
    return compile_sources([Source(place, reason, tuple(held)) for place, reason, held in sources])


def access_of(role: str, workspace_id: UUID | None) -> Access:
    return compile_access([(workspace_id, f"role {role}", BUILT_IN_ROLES[role])])


def allowed(access: Access, workspace_id: UUID | None) -> set[Permission]:
    return {permission for permission in Permission if decide(access, permission, workspace_id).allowed}


@pytest.mark.parametrize("role", BUILT_IN_ROLES)
def test_a_role_allows_what_it_holds_where_it_holds_and_nothing_else(role: str) -> None:
    local, wide, held = access_of(role, HERE), access_of(role, None), BUILT_IN_ROLES[role]
    assert allowed(local, HERE) == held
    assert allowed(local, THERE) == allowed(local, None) == set()
    assert allowed(wide, None) == allowed(wide, HERE) == allowed(wide, UNKNOWN) == held


def test_what_takes_two_permissions_is_allowed_by_both_and_ends_with_a_grant_of_either() -> None:
    lasting, denied = Decision(Outcome.ALLOW, "role"), Decision(Outcome.DENY, "no")
    first, second = (Decision(Outcome.ALLOW, "grant", grant_id=UUID(int=n)) for n in (1, 2))
    assert joined(lasting, lasting) is lasting
    assert joined(lasting, denied) is joined(denied, lasting) is denied
    assert joined(lasting, first).grant_id == joined(first, lasting).grant_id == joined(first, first).grant_id
    assert joined(first, lasting).grant_id == first.grant_id
    assert not joined(first, second).allowed, "work ends with one grant"


@pytest.mark.parametrize("place", [None, HERE])
def test_without_any_source_everything_is_denied_with_a_reason(place: UUID | None) -> None:
    for permission in Permission:
        decision = decide(compile_access([]), permission, place)
        assert (decision.outcome, decision.reason) == (Outcome.DENY, f"{permission} is not held here")


def test_a_refusal_names_the_smallest_roles_that_would_allow_it() -> None:
    nothing = compile_access([])
    assert decide(nothing, Permission.JOB_CREATE, HERE).allow_with == ("ci", "operator", "workspace-admin")
    assert decide(nothing, Permission.APPROVAL_DECIDE, HERE).allow_with == (
        "approver",
        "workspace-admin",
        "tenant-admin",
    )
    assert decide(nothing, Permission.TENANT_ADMIN).allow_with == ("tenant-admin",)
    assert decide(nothing, Permission.PLATFORM_ADMIN).allow_with == ("platform-admin",)


def test_every_role_that_a_refusal_names_does_hold_it() -> None:
    for permission in Permission:
        named = decide(compile_access([]), permission).allow_with
        sizes = [len(BUILT_IN_ROLES[role]) for role in named]
        assert 1 <= len(named) <= 3
        assert all(permission in BUILT_IN_ROLES[role] for role in named)
        assert sizes == sorted(sizes)


def test_what_allows_is_told_and_names_nothing_more() -> None:
    decision = decide(access_of("ci", HERE), Permission.JOB_CREATE, HERE)
    assert (decision.outcome, decision.reason, decision.allow_with) == (Outcome.ALLOW, "role ci", ())


def test_the_first_reason_found_stays() -> None:
    access = compile_access([(HERE, "first", [Permission.JOB_READ]), (HERE, "second", BUILT_IN_ROLES["viewer"])])
    assert decide(access, Permission.JOB_READ, HERE).reason == "first"
    assert decide(access, Permission.RUN_READ, HERE).reason == "second"


def test_the_whole_tenants_reason_comes_before_a_workspaces() -> None:
    access = compile_access([(HERE, "local", [Permission.JOB_READ]), (None, "wide", [Permission.JOB_READ])])
    assert decide(access, Permission.JOB_READ, HERE).reason == "wide"


def test_workspace_admin_alone_includes_every_permission_of_its_workspace() -> None:
    access = compile_access([(HERE, "key", [Permission.WORKSPACE_ADMIN])])
    assert allowed(access, HERE) == BUILT_IN_ROLES["workspace-admin"]
    assert allowed(access, THERE) == allowed(access, None) == set()


def test_workspace_admin_reaches_neither_tenant_nor_installation() -> None:
    access = compile_access([(HERE, "key", [Permission.WORKSPACE_ADMIN])])
    for permission in (Permission.TENANT_READ, Permission.TENANT_ADMIN, Permission.PLATFORM_ADMIN):
        assert not decide(access, permission, HERE).allowed


def test_tenant_admin_alone_includes_everything_but_the_installation() -> None:
    access = compile_access([(None, "key", [Permission.TENANT_ADMIN])])
    assert allowed(access, UNKNOWN) == set(Permission) - {Permission.PLATFORM_ADMIN}


@examples(deadline=None)
@given(sources=SOURCES, permission=st.sampled_from(Permission), place=PLACES)
def test_nothing_is_allowed_without_a_source_in_that_place_or_the_whole_tenant(
    sources: list[tuple[UUID | None, str, set[Permission]]], permission: Permission, place: UUID | None
) -> None:
    reasons = [
        reason
        for where, reason, held in sources
        if where in (None, place) and any(permission in {one, *INCLUDES.get(one, ())} for one in held)
    ]
    decision = decide(compile_access(sources), permission, place)
    assert decision.allowed == bool(reasons)
    assert not decision.allowed or decision.reason in reasons


def test_a_credential_knows_the_places_it_has_a_say_in() -> None:
    local, wide, none = access_of("viewer", HERE), access_of("viewer", None), compile_access([(HERE, "empty", [])])
    assert [local.knows(place) for place in (HERE, THERE)] == [True, False]
    assert wide.knows(UNKNOWN)
    assert not none.knows(HERE)
    assert (local.named_workspaces, local.wide, wide.wide) == (frozenset({HERE}), False, True)
    assert local.holds_anywhere(Permission.JOB_READ)
    assert not local.holds_anywhere(Permission.JOB_CREATE)


def grant_refused(access: Access, *, roles: tuple[str, ...] = (), permissions: tuple[str, ...] = ()) -> Denied:
    with pytest.raises(Denied) as refused:
        Grantor(access).require_grantable(roles=roles, permissions=permissions, workspace_id=HERE)
    assert refused.value.code == "grant_exceeds_own"
    return refused.value


def may_grant(giver: str, role: str) -> bool:
    try:
        Grantor(access_of(giver, None)).require_grantable(roles=(role,), permissions=(), workspace_id=None)
    except Denied:
        return False
    return True


@pytest.mark.parametrize("giver", BUILT_IN_ROLES)
@pytest.mark.parametrize("role", BUILT_IN_ROLES)
def test_a_role_is_granted_only_by_who_holds_all_of_it(giver: str, role: str) -> None:
    assert may_grant(giver, role) == (BUILT_IN_ROLES[role] <= BUILT_IN_ROLES[giver])


def test_a_refused_grant_names_exactly_what_is_not_held() -> None:
    assert grant_refused(access_of("viewer", HERE), permissions=("job:create", "job:read", "job:cancel")).fields[
        "missing"
    ] == ["job:cancel", "job:create"]


def test_what_is_held_in_another_workspace_is_not_granted_here() -> None:
    grant_refused(access_of("workspace-admin", THERE), roles=("viewer",))


def test_what_is_held_in_a_workspace_is_not_granted_in_the_whole_tenant() -> None:
    with pytest.raises(Denied):
        Grantor(access_of("workspace-admin", HERE)).require_grantable(
            roles=("viewer",), permissions=(), workspace_id=None
        )


@pytest.mark.parametrize("permission", ["workspace:admin", "tenant:admin"])
def test_a_permission_that_includes_others_is_granted_only_by_who_holds_those(permission: str) -> None:
    by_name_alone = {Permission(permission): Decision(Outcome.ALLOW, "by name alone")}
    refused = grant_refused(Access(tenant={}, workspaces={HERE: by_name_alone}), permissions=(permission,))
    assert "job:create" in str(refused.fields["missing"])


@pytest.mark.parametrize("role", ["tenant-admin", "platform-admin"])
def test_a_tenant_wide_role_is_not_granted_in_a_workspace(role: str) -> None:
    everything = compile_access([(None, "all", Permission)])
    with pytest.raises(Invalid) as refused:
        Grantor(everything).require_grantable(roles=(role,), permissions=(), workspace_id=HERE)
    assert refused.value.code == "role_not_for_workspace"
    Grantor(everything).require_grantable(roles=(role,), permissions=(), workspace_id=None)


@pytest.mark.parametrize("role", ["", "Viewer", "viewer ", "root", "job:read"])
def test_an_unknown_role_is_refused_with_the_known_ones(role: str) -> None:
    with pytest.raises(Invalid) as refused:
        permissions_of(["viewer", role])
    assert refused.value.code == "role_unknown"
    assert refused.value.fields["known"] == [*BUILT_IN_ROLES]


@pytest.mark.parametrize("permission", ["", "job:*", "JOB_READ", "job", "job:read ", "Job:Read", "*"])
def test_an_unknown_permission_is_refused(permission: str) -> None:
    with pytest.raises(Invalid) as refused:
        Grantor(compile_access([(None, "all", Permission)])).require_grantable(
            roles=(), permissions=(permission,), workspace_id=HERE
        )
    assert refused.value.code == "permission_unknown"
