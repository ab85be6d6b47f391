"""The log of a region, whose leaves are the checkpoints of its tenants' logs; and what it has seen of other regions'.

It belongs to no tenant, so the application has no part in it.
"""

from tenantry.foundation.database.migrations.fencing import drop, run, shared

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    # Of checkpoints that are older than a day one an hour is kept; younger ones nobody takes away.
    run(
        "grant delete on tenantry.audit_checkpoints to tenantry_sealer",
        """create policy sealer_keeps_a_day on tenantry.audit_checkpoints as restrictive for delete to tenantry_sealer
           using (made_at < now() - interval '1 day')""",
    )
    if not shared():
        return
    run(
        """create table fence.region_log (
            position bigint primary key check (position >= 0),
            leaf bytea not null unique check (length(leaf) = 32)
        )""",
        """create table fence.region_tiles (
            level smallint not null check (level > 0),
            position bigint not null check (position >= 0),
            hash bytea not null check (length(hash) = 32),
            primary key (level, position)
        )""",
        """create table fence.region_head (
            head_id integer primary key check (head_id = 1),
            size bigint not null,
            frontier bytea not null
        )""",
        "insert into fence.region_head values (1, 0, decode(repeat('00', 8), 'hex'))",
        """create table fence.region_roots (
            size bigint primary key check (size > 0),
            made_at timestamptz not null,
            note bytea not null
        )""",
        """create table fence.seen_roots (
            origin text primary key,
            size bigint not null,
            root bytea not null check (length(root) = 32)
        )""",
        "grant select, insert on fence.region_log, fence.region_tiles to tenantry_sealer",
        "grant select, update on fence.region_head to tenantry_sealer",
        "grant select, insert, update on fence.region_roots, fence.seen_roots to tenantry_sealer",
        "grant delete on fence.region_roots to tenantry_sealer",
    )


def downgrade() -> None:
    run(
        "drop policy sealer_keeps_a_day on tenantry.audit_checkpoints",
        "revoke delete on tenantry.audit_checkpoints from tenantry_sealer",
    )
    if shared():
        names = ("seen_roots", "region_roots", "region_head", "region_tiles", "region_log")
        drop(tuple(f"fence.{name}" for name in names))
