"""Policies and exemptions of a workspace or of a tenant, give exactly one of the two."""

from collections.abc import Mapping
from typing import Any, TypeVar

from tenantry.client.calls import API, Call, delete, get, path_of, place_of, post, query_of
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Exemption, Policy, PolicyOutcome

T = TypeVar("T")


class Policies(Resource[T]):
    """Versions of documents of the kinds image, command, network, deployment and rules."""

    @Operation
    def get(
        self, kind: str, /, *, workspace: str | None = None, tenant: str | None = None, version: int | None = None
    ) -> Call[Policy]:
        """Without a version that in force, else that in shadow, else the newest."""
        return get(*place_of(workspace, tenant), "policies", kind, query={"version": version})

    @Operation
    def put(
        self,
        kind: str,
        document: str | bytes,
        /,
        *,
        state: str = "draft",
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[Policy]:
        """Make a new version of YAML or JSON, as draft, in shadow, or enforced at once.

        Raises ApiError 422 with field, line and rule of each fault in `members["errors"]`; nothing has changed then.
        """
        return Call(
            method="PUT",
            path=path_of(*API, *place_of(workspace, tenant), "policies", kind),
            query=query_of({"state": state}),
            document=document.encode() if isinstance(document, str) else document,
            headers={"If-Match": if_match} if if_match else {},
        )

    @Operation
    def promote(
        self, kind: str, version: int, state: str, /, *, workspace: str | None = None, tenant: str | None = None
    ) -> Call[Policy]:
        """Bring a version to shadow, enforced or retired; what waits and is denied now ends in the same moment."""
        place = place_of(workspace, tenant)
        return post(*place, "policies", kind, "promote", json={"version": version, "state": state})

    @Listing
    def versions(
        self,
        *,
        kind: str | None = None,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Policy]:
        """Newest first."""
        call = get(*place_of(workspace, tenant), "policies", "versions", query={"kind": kind})
        return Plan(call=call, limit=limit, cursor=cursor)

    @Operation
    def test(self, workspace: str, /, spec: Mapping[str, Any]) -> Call[PolicyOutcome]:
        """Tell what all layers would say of `{"job": …}` or `{"deployment": …}`; nothing is made."""
        return post("workspaces", workspace, "policies", "test", json=dict(spec))

    @Operation
    def shadow_diff(self, workspace: str, /) -> Call[dict[str, Any]]:
        """Tell which of the last decisions would have been others with what is in shadow."""
        return get("workspaces", workspace, "policies", "shadow-diff")

    @Operation
    def prove(
        self, kind: str, document: str | bytes, /, *, workspace: str | None = None, tenant: str | None = None
    ) -> Call[dict[str, Any]]:
        """Tell whether a candidate allows anything that what is in force denies, and what; image and network."""
        return Call(
            method="POST",
            path=path_of(*API, *place_of(workspace, tenant), "policies", "proof"),
            query=query_of({"kind": kind}),
            document=document.encode() if isinstance(document, str) else document,
        )

    @Operation
    def of_platform(self, kind: str, /) -> Call[dict[str, Any]]:
        """Tell what the installation's own file of a kind says; the platform's key alone may ask."""
        return get("platform", "policies", kind)


class Exemptions(Resource[T]):
    """Rules that are lifted for a time."""

    @Operation
    def create(
        self,
        *,
        kind: str,
        rule: str,
        owner: str,
        reason: str,
        expires_at: str,
        workspace: str | None = None,
        tenant: str | None = None,
    ) -> Call[Exemption]:
        """Lift the rules whose names begin with `rule`, of the place's layer and those below it."""
        body = {"kind": kind, "rule": rule, "owner": owner, "reason": reason, "expires_at": expires_at}
        return post(*place_of(workspace, tenant), "exemptions", json=body)

    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Exemption]:
        """Newest first, ended ones too."""
        return Plan(call=get(*place_of(workspace, tenant), "exemptions"), limit=limit, cursor=cursor)

    @Operation
    def revoke(self, exemption: str, /, *, workspace: str | None = None, tenant: str | None = None) -> Call[None]:
        """End it now, for every process within a second."""
        return delete(*place_of(workspace, tenant), "exemptions", exemption)
