"""Tables of limits; the revisions 0013, 0015 and 0016 make them."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Numeric, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

limit_overrides = Table(
    "limit_overrides",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("override_id", Uuid, primary_key=True),
    # None: of the tenant as a whole.
    Column("workspace_id", Uuid),
    Column("rates", JSONB, nullable=False),
    Column("numbers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("updated_at", MOMENT, nullable=False),
    Column("updated_by", Text, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", name="limit_overrides_place", postgresql_nulls_not_distinct=True),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
)
quota_counters = Table(
    "quota_counters",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    # The tenant itself or one of its workspaces.
    Column("holder_id", Uuid, primary_key=True),
    Column("quota", Text, primary_key=True),
    Column("window_start", MOMENT, primary_key=True),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("held", "used")),
    Column("updated_at", MOMENT, nullable=False),
    belongs_to("tenants"),
    Index("quota_counters_updated", "updated_at"),
)
reservations = Table(
    "reservations",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    # That of what it is held for: a job, an image.
    Column("reservation_id", Uuid, primary_key=True),
    Column("quota", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("workspace_id", Uuid),
    Column("window_start", MOMENT, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    *(Column(name, MOMENT) for name in ("settled_at", "expires_at")),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
    Index(
        "reservations_expiring",
        "tenant_id",
        "expires_at",
        postgresql_where=text("state = 'held' and expires_at is not null"),
    ),
)
metering_events = Table(
    "metering_events",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("meter", Text, nullable=False),
    # Whole, in the meter's smallest unit.
    Column("quantity", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("principal_id", Text),
    Column("occurred_at", MOMENT, nullable=False),
    Column("recorded_at", MOMENT, nullable=False),
    Column("attributes", JSONB, nullable=False),
    # Whether the hours hold it.
    Column("rolled", Boolean, nullable=False, server_default=text("false")),
    belongs_to("workspaces", "workspace_id"),
    Index("metering_events_time", "tenant_id", "occurred_at", "event_id"),
    Index("metering_events_workspace", "tenant_id", "workspace_id", "occurred_at", "event_id"),
    Index("metering_events_unrolled", "tenant_id", postgresql_where=text("not rolled")),
)
metering_hours = Table(
    "metering_hours",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, primary_key=True),
    Column("hour", MOMENT, primary_key=True),
    Column("meter", Text, primary_key=True),
    # A sum knows no bound: one that overflowed would keep all later ones from being made.
    Column("quantity", Numeric, nullable=False),
    Column("events", BigInteger, nullable=False),
    belongs_to("workspaces", "workspace_id"),
    Index("metering_hours_time", "tenant_id", "hour", "workspace_id", "meter"),
)
metering_marks = Table(
    "metering_marks",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("rolled_up_to", MOMENT, nullable=False),
    belongs_to("tenants"),
)
