from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from tenantry.client.calls import Call, delete, etag_of, get, given, patch, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Workspace

T = TypeVar("T")


class Workspaces(Resource[T]):
    """Where work happens. `workspace` is an id."""

    @Operation
    def create(
        self,
        *,
        name: str,
        tenant: str | None = None,
        path: str | None = None,
        region: str | None = None,
        owner: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Workspace]:
        """`tenant` is the credential's when absent; `owner` is `{type, id}`, type `user`, `team` or `ai-agent`."""
        body = given(name=name, tenant=tenant, path=path, region=region, owner=owner, settings=settings)
        return post("workspaces", json=body, idempotency_key=idempotency_key)

    @Operation
    def get(self, workspace: str) -> Call[Workspace]:
        return get("workspaces", workspace)

    @Operation
    def etag(self, workspace: str) -> Call[str | None]:
        """Its version now, for `if_match`."""
        return replace(get("workspaces", workspace), parse=etag_of)

    @Listing
    def list(
        self, *, tenant: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Plan[Workspace]:
        return Plan(call=get("workspaces", query={"tenant": tenant}), limit=limit, cursor=cursor)

    @Operation
    def update(self, workspace: str, changes: Mapping[str, object], *, if_match: str | None = None) -> Call[Workspace]:
        """Raise ApiError 412 when `if_match` is not its version any more."""
        return patch("workspaces", workspace, json=changes, if_match=if_match)

    @Operation
    def archive(self, workspace: str, *, if_match: str | None = None) -> Call[Workspace | None]:
        return delete("workspaces", workspace, if_match=if_match)

    @Operation
    def suspend(self, workspace: str, *, reason: str) -> Call[Workspace]:
        return post("workspaces", workspace, "suspend", json={"reason": reason})

    @Operation
    def resume(self, workspace: str) -> Call[Workspace]:
        return post("workspaces", workspace, "resume")
