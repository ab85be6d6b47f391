"""What a revision says to put a table behind the fence. One call, one table; the boot self-test counts them.

A revision is written for the schema `tenantry`. It also runs for each schema of a tenant of its own (`schema_level`),
with that name in its place; what a database has once, whatever schemas it holds, stands behind `if shared()`.

Invariant: every table with a `tenant_id` has forced row level security, a tenant-leading key, and these policies:
a permissive `application` that opens it to `tenantry_app`, and restrictive ones that close it again to all but the
rows of the signed tenant (and workspace). Restrictive policies are ANDed: a later permissive one cannot widen them.
"""

from collections.abc import Sequence
from typing import Final

from alembic import op

APP: Final = "tenantry_app"
MOVER: Final = "tenantry_mover"
SHARED: Final = "tenantry"


def fence(table: str, *, grants: str = "select, insert, update, delete", workspace: bool = True) -> None:
    """Close `table`. `workspace` also binds rows to the workspace of the context where it names one.

    Reading asks `fence.tenant()`, writing `fence.writable_tenant()`: a tenant on the move is read, not written. Moves,
    exports and erasures get at the rows of the tenant they have signed for by the policy `mover`.
    """
    run(
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"grant {grants} on {table} to {APP}",
        f"create policy application on {table} to {APP} using (true) with check (true)",
    )
    tenant, writable = _tenants_of(_placed(table))
    for name, command, clause in (
        ("tenant_read", "select", f"using (tenant_id = (select {tenant}))"),
        ("tenant_insert", "insert", f"with check (tenant_id = (select {writable}))"),
        (
            "tenant_update",
            "update",
            f"using (tenant_id = (select {writable})) with check (tenant_id = (select {writable}))",
        ),
        ("tenant_delete", "delete", f"using (tenant_id = (select {writable}))"),
    ):
        run(f"create policy {name} on {table} as restrictive for {command} to {APP} {clause}")
    clause = "(tenant_id = (select fence.moved_tenant()))"
    run(
        f"grant select, insert, update, delete on {table} to {MOVER}",
        f"create policy mover on {table} to {MOVER} using {clause} with check {clause}",
    )
    if workspace:
        run(
            f"create policy workspace on {table} as restrictive to {APP} "
            "using (workspace_id is not distinct from coalesce((select fence.workspace()), workspace_id))"
        )


def open_to(table: str, *, role: str, grants: str, name: str) -> None:
    """Let a cross-tenant role see all rows of one table: FORCE binds the owner too, so each needs its own policy."""
    run(
        f"grant {grants} on {table} to {role}",
        f"create policy {name} on {table} to {role} using (true) with check (true)",
    )


def schema() -> str:
    """Name the schema this revision runs for."""
    config = op.get_context().config
    return str(config.attributes.get("place", SHARED)) if config else SHARED


def shared() -> bool:
    """Say whether the database's own schema is migrated, and with it what the database has once."""
    return schema() == SHARED


def run(*statements: str) -> None:
    config = op.get_context().config
    said = config.attributes.get("said", []) if config else []
    for statement in statements:
        placed = _placed(statement)
        said.append(placed)
        op.get_bind().exec_driver_sql(placed)


def _placed(text: str) -> str:
    return text if shared() else text.replace(f"{SHARED}.", f"{schema()}.")


def _tenants_of(table: str) -> tuple[str, str]:
    """Name the functions that tell a table's tenant: to read, to write."""
    there = table.partition(".")[0]
    if there == SHARED:
        return "fence.tenant()", "fence.writable_tenant()"
    if there == "queue":
        return "fence.tenant_here()", "fence.writable_tenant_here()"
    return f"fence.tenant_in('{there}')", f"fence.writable_tenant_in('{there}')"


def drop(tables: Sequence[str]) -> None:
    for table in tables:
        run(f"drop table {table}")
