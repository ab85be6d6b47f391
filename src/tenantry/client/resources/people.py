"""Roles, groups and members. They live in a workspace or in a tenant: give exactly one of the two."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenantry.client.access_types import EffectivePermissions, Group, GroupMember, Member, Role
from tenantry.client.calls import Call, delete, get, given, patch, place_of, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.resources.placed import Placed

T = TypeVar("T")


class Roles(Placed[T, Role]):
    kind = "roles"

    @Operation
    def create(
        self,
        *,
        slug: str,
        permissions: Sequence[str],
        description: str | None = None,
        workspace: str | None = None,
        tenant: str | None = None,
    ) -> Call[Role]:
        """Define a role; nobody defines more than they hold."""
        body = given(slug=slug, permissions=list(permissions), description=description)
        return post(*place_of(workspace, tenant), "roles", json=body)

    @Operation
    def get(self, role: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[Role]:
        return get(*place_of(workspace, tenant), "roles", role)

    @Operation
    def update(
        self,
        role: str,
        changes: Mapping[str, object],
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[Role]:
        """Change `permissions` or `description`, for everybody who has the role."""
        return patch(*place_of(workspace, tenant), "roles", role, json=changes, if_match=if_match)

    @Operation
    def delete(self, role: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[None]:
        return delete(*place_of(workspace, tenant), "roles", role)


class Groups(Placed[T, Group]):
    kind = "groups"

    @Operation
    def create(
        self, *, name: str, description: str | None = None, workspace: str | None = None, tenant: str | None = None
    ) -> Call[Group]:
        return post(*place_of(workspace, tenant), "groups", json=given(name=name, description=description))

    @Operation
    def delete(self, group: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[None]:
        """Delete the group with its bindings."""
        return delete(*place_of(workspace, tenant), "groups", group)

    @Operation
    def add(
        self, group: str, *, principal: str, workspace: str | None = None, tenant: str | None = None
    ) -> Call[GroupMember]:
        """Let a user or service account in."""
        path = (*place_of(workspace, tenant), "groups", group, "members")
        return post(*path, json={"principal": principal})

    @Operation
    def remove(
        self, group: str, *, principal: str, workspace: str | None = None, tenant: str | None = None
    ) -> Call[None]:
        return delete(*place_of(workspace, tenant), "groups", group, "members", principal)

    @Listing
    def members(
        self,
        group: str,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[GroupMember]:
        call = get(*place_of(workspace, tenant), "groups", group, "members")
        return Plan(call=call, limit=limit, cursor=cursor)


class Members(Resource[T]):
    @Listing
    def list(self, *, tenant: str, limit: int | None = None, cursor: str | None = None) -> Plan[Member]:
        return Plan(call=get("tenants", tenant, "members"), limit=limit, cursor=cursor)

    @Operation
    def update(
        self, member: str, changes: Mapping[str, object], *, tenant: str, if_match: str | None = None
    ) -> Call[Member]:
        """Set `status` to `disabled`, with every credential of the user, or back to `active`."""
        return patch("tenants", tenant, "members", member, json=changes, if_match=if_match)

    @Operation
    def permissions(
        self, *, principal: str | None = None, workspace: str | None = None, tenant: str | None = None
    ) -> Call[EffectivePermissions]:
        """Tell what a principal, or without one this credential, may do in a place, and by what."""
        return get(*place_of(workspace, tenant), "permissions", query={"principal": principal})
