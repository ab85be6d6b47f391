from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from tenantry.client.calls import Call, delete, etag_of, get, given, patch, post, put
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Environment, LabelCheck, Labels, Slos, Workspace

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

    @Operation
    def add_environment(
        self,
        workspace: str,
        *,
        slug: str,
        kind: str | None = None,
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Environment]:
        """`kind` is `dev`, `test`, `staging` or `prod`; needed where the slug is none of these."""
        body = given(slug=slug, kind=kind, description=description)
        return post("workspaces", workspace, "environments", json=body, idempotency_key=idempotency_key)

    @Listing
    def environments(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Environment]:
        return Plan(call=get("workspaces", workspace, "environments"), limit=limit, cursor=cursor)

    @Operation
    def environment(self, workspace: str, slug: str) -> Call[Environment]:
        return get("workspaces", workspace, "environments", slug)

    @Operation
    def change_environment(
        self, workspace: str, slug: str, changes: Mapping[str, object], *, if_match: str | None = None
    ) -> Call[Environment]:
        """Change kind or description; raise ApiError 412 when `if_match` is not its version any more."""
        return patch("workspaces", workspace, "environments", slug, json=changes, if_match=if_match)

    @Operation
    def remove_environment(self, workspace: str, slug: str, *, if_match: str | None = None) -> Call[Environment | None]:
        return delete("workspaces", workspace, "environments", slug, if_match=if_match)

    @Operation
    def slos(self, workspace: str, *, explain: bool = False) -> Call[Slos]:
        """Read what holds in the workspace; with `explain` also which layer gave each value."""
        return get("workspaces", workspace, "slos", query={"explain": explain or None})

    @Operation
    def set_slos(self, workspace: str, overlay: Mapping[str, object], *, if_match: str | None = None) -> Call[Slos]:
        """Replace this layer whole; raise ApiError 412 when `if_match` is not the workspace's version any more."""
        return put("workspaces", workspace, "slos", json={"overlay": overlay}, if_match=if_match)

    @Operation
    def labels(self, workspace: str, *, explain: bool = False) -> Call[Labels]:
        """Read the label catalogue that holds in the workspace; `explain` as for `slos`."""
        return get("workspaces", workspace, "labels", query={"explain": explain or None})

    @Operation
    def set_labels(self, workspace: str, overlay: Mapping[str, object], *, if_match: str | None = None) -> Call[Labels]:
        """Replace this layer whole, as `set_slos`."""
        return put("workspaces", workspace, "labels", json={"overlay": overlay}, if_match=if_match)

    @Operation
    def check_labels(self, workspace: str, labels: Mapping[str, object]) -> Call[LabelCheck]:
        """Tell whether label values fit the workspace's catalogue; nothing is done."""
        return post("workspaces", workspace, "labels", "check", json={"labels": labels})
