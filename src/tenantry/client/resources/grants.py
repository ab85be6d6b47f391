"""Roles for a bounded time, and the decisions they and others wait for; both live in a workspace."""

from typing import TypeVar

from tenantry.client.access_types import Approval, Grant, RevokedGrants
from tenantry.client.calls import Call, get, given, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan

T = TypeVar("T")


class Grants(Resource[T]):
    @Operation
    def request(
        self,
        workspace: str,
        /,
        *,
        role: str,
        reason: str,
        minutes: int | None = None,
        provider: str | None = None,
        principal: str | None = None,
    ) -> Call[Grant]:
        """Ask for oneself, which others approve; with `principal` give it to another at once, as an administrator.

        `role` is a slug, or at a `provider` (`gcp`, `aws`, …) one of viewer, deployer, admin.
        """
        body = given(role=role, reason=reason, minutes=minutes, provider=provider, principal=principal)
        return post("workspaces", workspace, "grants", json=body)

    @Listing
    def list(
        self,
        workspace: str,
        /,
        *,
        status: str | None = None,
        principal: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Grant]:
        """Newest first, those that ended too."""
        query = {"status": status, "principal": principal}
        return Plan(call=get("workspaces", workspace, "grants", query=query), limit=limit, cursor=cursor)

    @Operation
    def get(self, workspace: str, grant: str, /) -> Call[Grant]:
        return get("workspaces", workspace, "grants", grant)

    @Operation
    def extend(self, workspace: str, grant: str, /, *, minutes: int) -> Call[Grant]:
        """One's own waits for an approval, as the first time."""
        return post("workspaces", workspace, "grants", grant, "extend", json={"minutes": minutes})

    @Operation
    def revoke(self, workspace: str, grant: str, /, *, reason: str | None = None) -> Call[Grant]:
        """End it, or withdraw what asks for it, at once."""
        return post("workspaces", workspace, "grants", grant, "revoke", json=given(reason=reason))

    @Operation
    def revoke_all(self, workspace: str, /, *, principal: str) -> Call[RevokedGrants]:
        """End all of a principal in the workspace at once."""
        return post("workspaces", workspace, "grants", "revoke-all", json={"principal": principal})


class Approvals(Resource[T]):
    """Decisions on exactly what will be done, whatever it is."""

    @Listing
    def list(
        self, workspace: str, /, *, status: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Plan[Approval]:
        """Newest first."""
        query = {"status": status}
        return Plan(call=get("workspaces", workspace, "approvals", query=query), limit=limit, cursor=cursor)

    @Operation
    def get(self, workspace: str, approval: str, /) -> Call[Approval]:
        return get("workspaces", workspace, "approvals", approval)

    @Operation
    def approve(
        self, workspace: str, approval: str, /, *, comment: str | None = None, minutes: int | None = None
    ) -> Call[Approval]:
        """Never what one asked for oneself. `minutes` shortens what is asked for."""
        body = given(comment=comment, minutes=minutes)
        return post("workspaces", workspace, "approvals", approval, "approve", json=body)

    @Operation
    def reject(self, workspace: str, approval: str, /, *, comment: str | None = None) -> Call[Approval]:
        """For good: one rejection is enough."""
        return post("workspaces", workspace, "approvals", approval, "reject", json=given(comment=comment))
