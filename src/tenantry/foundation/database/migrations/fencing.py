"""What a revision says to put a table behind the fence. One call, one table; the boot self-test counts them.

Invariant: every table with a `tenant_id` has forced row level security, a tenant-leading key, and these policies:
a permissive `application` that opens it to `tenantry_app`, and restrictive ones that close it again to all but the
rows of the signed tenant (and workspace). Restrictive policies are ANDed: a later permissive one cannot widen them.
"""

from collections.abc import Sequence
from typing import Final

from alembic import op

APP: Final = "tenantry_app"


def fence(table: str, *, grants: str = "select, insert, update, delete", workspace: bool = True) -> None:
    """Close `table`. `workspace` also binds rows to the workspace of the context where it names one.

    Reading asks `fence.tenant()`, writing `fence.writable_tenant()`: a tenant on the move is read, not written.
    """
    run(
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"grant {grants} on {table} to {APP}",
        f"create policy application on {table} to {APP} using (true) with check (true)",
    )
    for name, command, clause in (
        ("tenant_read", "select", "using (tenant_id = (select fence.tenant()))"),
        ("tenant_insert", "insert", "with check (tenant_id = (select fence.writable_tenant()))"),
        (
            "tenant_update",
            "update",
            """using (tenant_id = (select fence.writable_tenant()))
               with check (tenant_id = (select fence.writable_tenant()))""",
        ),
        ("tenant_delete", "delete", "using (tenant_id = (select fence.writable_tenant()))"),
    ):
        run(f"create policy {name} on {table} as restrictive for {command} to {APP} {clause}")
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


def run(*statements: str) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def drop(tables: Sequence[str]) -> None:
    for table in tables:
        run(f"drop table {table}")
