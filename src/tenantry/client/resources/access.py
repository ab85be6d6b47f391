"""Who may do what. Keys, roles and bindings live in a workspace or in a tenant: give exactly one of the two."""

from collections.abc import Sequence
from typing import TypeVar

from tenantry.client.calls import Call, delete, get, given, post
from tenantry.client.errors import BadRequest
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Binding, Key, Member, Role, ServiceAccount

T = TypeVar("T")


def _place(workspace: str | None, tenant: str | None) -> tuple[str, str]:
    if workspace is not None and tenant is None:
        return "workspaces", workspace
    if tenant is not None and workspace is None:
        return "tenants", tenant
    raise BadRequest("place_ambiguous", "give exactly one of workspace and tenant")


class ServiceAccounts(Resource[T]):
    @Operation
    def create(self, *, name: str, workspace: str) -> Call[ServiceAccount]:
        return post("workspaces", workspace, "service-accounts", json={"name": name})

    @Listing
    def list(self, *, workspace: str, limit: int | None = None, cursor: str | None = None) -> Plan[ServiceAccount]:
        return Plan(call=get("workspaces", workspace, "service-accounts"), limit=limit, cursor=cursor)


class Keys(Resource[T]):
    @Operation
    def create(
        self,
        *,
        name: str,
        roles: Sequence[str],
        workspace: str | None = None,
        tenant: str | None = None,
        permissions: Sequence[str] | None = None,
        expires_at: str | None = None,
        service_account: str | None = None,
        allowed_networks: Sequence[str] | None = None,
    ) -> Call[Key]:
        """Answer with `secret`, shown only here. `expires_at` is RFC 3339, `allowed_networks` are CIDR blocks."""
        body = given(
            name=name,
            roles=list(roles),
            permissions=permissions,
            expires_at=expires_at,
            service_account=service_account,
            allowed_networks=allowed_networks,
        )
        return post(*_place(workspace, tenant), "keys", json=body)

    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Key]:
        return Plan(call=get(*_place(workspace, tenant), "keys"), limit=limit, cursor=cursor)

    @Operation
    def revoke(self, key: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[Key | None]:
        """At once and for good. `key` is its id, never the secret."""
        return delete(*_place(workspace, tenant), "keys", key)


class Roles(Resource[T]):
    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Role]:
        return Plan(call=get(*_place(workspace, tenant), "roles"), limit=limit, cursor=cursor)


class Bindings(Resource[T]):
    @Operation
    def create(
        self, *, principal: str, role: str, workspace: str | None = None, tenant: str | None = None
    ) -> Call[Binding]:
        """`principal` is the id of a user or service account, `role` a slug."""
        return post(*_place(workspace, tenant), "bindings", json={"principal": principal, "role": role})

    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Binding]:
        return Plan(call=get(*_place(workspace, tenant), "bindings"), limit=limit, cursor=cursor)

    @Operation
    def delete(self, binding: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[None]:
        return delete(*_place(workspace, tenant), "bindings", binding)


class Members(Resource[T]):
    @Listing
    def list(self, *, tenant: str, limit: int | None = None, cursor: str | None = None) -> Plan[Member]:
        return Plan(call=get("tenants", tenant, "members"), limit=limit, cursor=cursor)
