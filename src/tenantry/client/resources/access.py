"""Who may do what. Keys and bindings live in a workspace or in a tenant: give exactly one of the two."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenantry.client.access_types import Binding, Key, ServiceAccount
from tenantry.client.calls import Call, delete, get, given, patch, place_of, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.resources.placed import Placed

T = TypeVar("T")


class ServiceAccounts(Resource[T]):
    @Operation
    def create(self, *, name: str, workspace: str) -> Call[ServiceAccount]:
        return post("workspaces", workspace, "service-accounts", json={"name": name})

    @Listing
    def list(self, *, workspace: str, limit: int | None = None, cursor: str | None = None) -> Plan[ServiceAccount]:
        return Plan(call=get("workspaces", workspace, "service-accounts"), limit=limit, cursor=cursor)

    @Operation
    def update(
        self, account: str, changes: Mapping[str, object], *, workspace: str, if_match: str | None = None
    ) -> Call[ServiceAccount]:
        """Set `status` to `disabled`, with all it proves itself by, or back to `active`."""
        return patch("workspaces", workspace, "service-accounts", account, json=changes, if_match=if_match)


class Keys(Placed[T, Key]):
    kind = "keys"

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
        delegated: bool | None = None,
    ) -> Call[Key]:
        """Answer with `secret`, shown only here. `expires_at` is RFC 3339, `allowed_networks` are CIDR blocks.

        `delegated` makes one for an agent: never more than who makes it may do, at any moment.
        Without `expires_at` the server's own default counts.
        """
        body = given(
            name=name,
            roles=list(roles),
            permissions=permissions,
            expires_at=expires_at,
            service_account=service_account,
            allowed_networks=allowed_networks,
            delegated=delegated,
        )
        return post(*place_of(workspace, tenant), "keys", json=body)

    @Operation
    def rotate(
        self, key: str, *, workspace: str | None = None, tenant: str | None = None, grace_hours: int | None = None
    ) -> Call[Key]:
        """Answer with a new key and its `secret`, shown only here; the old one works on for 24 to 48 hours."""
        return post(*place_of(workspace, tenant), "keys", key, "rotate", json=given(grace_hours=grace_hours))

    @Operation
    def revoke(self, key: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[Key | None]:
        """At once and for good. `key` is its id, never the secret."""
        return delete(*place_of(workspace, tenant), "keys", key)


class Bindings(Placed[T, Binding]):
    kind = "bindings"

    @Operation
    def create(
        self,
        *,
        principal: str,
        role: str,
        workspace: str | None = None,
        tenant: str | None = None,
        effect: str | None = None,
        condition: Mapping[str, object] | None = None,
    ) -> Call[Binding]:
        """`principal` is the id of a user, service account or group, `role` a slug, `effect` `allow` or `deny`.

        `condition` may name `environments`, `labels` and `paths`: all that is named must hold.
        """
        body = given(principal=principal, role=role, effect=effect, condition=condition)
        return post(*place_of(workspace, tenant), "bindings", json=body)

    @Operation
    def delete(self, binding: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[None]:
        return delete(*place_of(workspace, tenant), "bindings", binding)
