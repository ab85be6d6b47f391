"""SLOs and labels of tenants and workspaces; quotas and usage of tenants."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands import tenant as tenants
from tenantry.interfaces.cli.commands import workspace as workspaces
from tenantry.interfaces.cli.commands.assignments import nested
from tenantry.interfaces.cli.commands.tenant import IfMatchOption, TenantArgument
from tenantry.interfaces.cli.commands.workspace import WorkspaceArgument
from tenantry.interfaces.cli.invocation import Invocation, command
from tenantry.interfaces.cli.output import Format
from tenantry.kit.overlays import lay, paths, thaw

ExplainOption = Annotated[bool, typer.Option("--explain", help="also which layer gave each value")]
EntriesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="an entry of this layer; dots go down a level, null: no limit"),
]
ClearOption = Annotated[bool, typer.Option("--clear", help="empty this layer, before --set")]


def register(app: typer.Typer) -> None:
    """Nothing of its own: the commands stand in the groups `tenant` and `workspace`."""


@command(
    tenants.GROUP, "slos", example="tenantry tenant slos acme --set latency_p95_ms=100 --set saturation.max_qps=50"
)
def slos_of_tenant(
    cli: Invocation,
    tenant: TenantArgument,
    *,
    explain: ExplainOption = False,
    entries: EntriesOption = None,
    clear: ClearOption = False,
    if_match: IfMatchOption = None,
) -> None:
    """Show the objectives that hold in a tenant, or change what the tenant lays over its plan's."""
    answer = _Layer(cli.client.tenants, tenant, "slos").serve(entries, clear=clear, if_match=if_match, explain=explain)
    _show(cli, answer, "slos", explain=explain)


@command(tenants.GROUP, "labels", example="tenantry tenant labels acme --set priority.type=categorical")
def labels_of_tenant(
    cli: Invocation,
    tenant: TenantArgument,
    *,
    explain: ExplainOption = False,
    entries: EntriesOption = None,
    clear: ClearOption = False,
    if_match: IfMatchOption = None,
) -> None:
    """Show the label catalogue of a tenant, or add labels and further values to it."""
    layer = _Layer(cli.client.tenants, tenant, "labels")
    _show(cli, layer.serve(entries, clear=clear, if_match=if_match, explain=explain), "labels", explain=explain)


@command(workspaces.GROUP, "slos", example="tenantry workspace slos ci --explain")
def slos_of_workspace(
    cli: Invocation,
    workspace: WorkspaceArgument,
    *,
    explain: ExplainOption = False,
    entries: EntriesOption = None,
    clear: ClearOption = False,
    if_match: IfMatchOption = None,
) -> None:
    """Show the objectives that hold in a workspace, or change what it lays over its tenant's."""
    layer = _Layer(cli.client.workspaces, cli.workspace_id(workspace), "slos")
    _show(cli, layer.serve(entries, clear=clear, if_match=if_match, explain=explain), "slos", explain=explain)


@command(
    workspaces.GROUP,
    "labels",
    example="""tenantry workspace labels ci --set env.type=categorical --set 'env.values=["qa"]'""",
)
def labels_of_workspace(
    cli: Invocation,
    workspace: WorkspaceArgument,
    *,
    explain: ExplainOption = False,
    entries: EntriesOption = None,
    clear: ClearOption = False,
    if_match: IfMatchOption = None,
) -> None:
    """Show the label catalogue of a workspace, or add labels and further values to it."""
    layer = _Layer(cli.client.workspaces, cli.workspace_id(workspace), "labels")
    _show(cli, layer.serve(entries, clear=clear, if_match=if_match, explain=explain), "labels", explain=explain)


@command(tenants.GROUP, "quotas", example="tenantry tenant quotas acme")
def quotas(cli: Invocation, tenant: TenantArgument) -> None:
    """Show each quota, what of it is used, and whether more fits."""
    found = cli.client.tenants.quotas(tenant)
    if cli.output is Format.JSON:
        cli.show(found)
        return
    rows = [{"name": name, **status, "limit": _limit(status)} for name, status in found.items()]
    cli.show_items(rows, (("QUOTA", "name"), ("USED", "current"), ("LIMIT", "limit"), ("EXCEEDED", "exceeded")))


@command(tenants.GROUP, "usage", example="tenantry tenant usage acme --output json")
def usage(cli: Invocation, tenant: TenantArgument) -> None:
    """Show what a tenant uses now, and which workspaces keep most."""
    cli.show(cli.client.tenants.usage(tenant))


class _Layer:
    """One overlay: SLOs or labels of a tenant or workspace."""

    def __init__(self, resource: Any, identity: str, kind: Literal["slos", "labels"]) -> None:
        self._read = getattr(resource, kind)
        self._write = getattr(resource, f"set_{kind}")
        self._identity = identity

    def serve(
        self, entries: list[str] | None, *, clear: bool, if_match: str | None, explain: bool
    ) -> Mapping[str, Any]:
        """Read, or lay the entries over the layer as it is now; another's change in between is refused (412)."""
        if not entries and not clear:
            return self._read(self._identity, explain=explain)  # type: ignore[no-any-return]
        present = self._read(self._identity)
        below = {} if clear else present["overlay"]
        try:
            overlay = lay([("before", below), ("now", nested(entries, option="--set"))]).values
        except ValueError as error:
            raise BadRequest("assignment_malformed", f"--set: {error}") from None
        version = if_match or str(present["version"])
        return self._write(self._identity, thaw(overlay), if_match=version)  # type: ignore[no-any-return]


def _show(cli: Invocation, answer: Mapping[str, Any], kind: str, *, explain: bool) -> None:
    if cli.output is Format.JSON:
        cli.show(answer)
    elif explain:
        layers = answer.get("layers") or {}
        rows = [
            {"name": path, "value": "no limit" if value is None else value, "layer": layers.get(path)}
            for path, value in paths(answer[kind]).items()
        ]
        cli.show_items(rows, (("NAME", "name"), ("VALUE", "value"), ("LAYER", "layer")))
    else:
        cli.show(answer[kind])


def _limit(status: Mapping[str, Any]) -> object:
    return "unlimited" if status.get("unlimited") else status.get("limit")
