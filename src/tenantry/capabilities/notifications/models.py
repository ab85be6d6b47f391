"""Tables of notifications; the revision 0011 makes them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

notification_channels = Table(
    "notification_channels",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("channel_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("name", "kind", "hint", "status", "created_by")),
    Column("sealed", LargeBinary, nullable=False),
    Column("topics", ARRAY(Text), nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    *(Column(name, MOMENT, nullable=False) for name in ("created_at", "updated_at")),
    UniqueConstraint("tenant_id", "workspace_id", "name", postgresql_nulls_not_distinct=True),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
)
notification_deliveries = Table(
    "notification_deliveries",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("delivery_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("event_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("topic", "status")),
    *(Column(name, Uuid) for name in ("channel_id", "recipient_id")),
    Column("notice", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    *(Column(name, MOMENT, nullable=False) for name in ("next_attempt_at", "created_at")),
    Column("last_error", Text),
    Column("sent_at", MOMENT),
    UniqueConstraint("tenant_id", "event_id", "channel_id", "recipient_id", postgresql_nulls_not_distinct=True),
    belongs_to("workspaces", "workspace_id"),
    belongs_to("notification_channels", "channel_id"),
    belongs_to("users", "user_id", named="recipient_id"),
    Index("notification_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
    Index("notification_deliveries_channel", "tenant_id", "channel_id"),
)
